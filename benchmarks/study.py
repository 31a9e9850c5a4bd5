"""Settings beside each other: students of Multi30k with equal numbers of steps, seed by seed.

    python -m benchmarks.study monolingual            # one study
    python -m benchmarks.study monolingual --seeds 1  # a part of it

The teacher is multi30k/teacher, the data multi30k/data (symbolic links are fine). Each finished run adds a line to
docs/studies.jsonl; a recorded run is not repeated (remove its line to repeat it). The table is written to
docs/results.md: BLEU and chrF on the test split with greedy decoding, and the paired bootstrap against the first
setting over the pooled outputs of the seeds.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.students import compare_pooled

RECORDS = Path("docs/studies.jsonl")
PAGE = Path("docs/results.md")
RUNS = Path("runs/studies")
DATA, TEACHER = Path("multi30k/data"), Path("multi30k/teacher")
MEANS = {"bleu": 2, "chrf": 2, "gen_len": 1}
"""What a table has the means of, and with how many decimals."""
COMMON = (
    *("--config", "configs/translation/multi30k-en-de-6-1.yaml", "--targets", "reference"),
    *("--eval.beams", "1", "--eval.n_val", "100"),
    *("--eval.n_test", "1000", "--eval.n_speed", "0", "--logger", "[]", "--trainer.enable_progress_bar", "false"),
)


@dataclass(frozen=True)
class Study:
    """Settings to compare."""

    steps: int
    """Of each run."""
    prepare: Callable[[Path], None]
    """Makes what the settings share, in the study's folder; may be called again."""
    settings: dict[str, tuple[str, ...]]
    """Options of each setting; {folder} stands for the study's folder. The others are compared with the first."""


def split_in_halves(folder: Path) -> None:
    """Sources of every other row without references, labelled by the teacher; the other rows with references."""
    for split in ("train", "val", "test"):
        sides = {side: (DATA / f"{split}.{side}").read_text("utf-8").splitlines(True) for side in ("source", "target")}
        for half in (0, 1):
            place = folder / ("sources", "pairs")[half]
            place.mkdir(parents=True, exist_ok=True)
            for side, lines in sides.items():
                if split != "train":
                    (place / f"{split}.{side}").write_text("".join(lines), "utf-8")
                elif half or side == "source":
                    (place / f"{split}.{side}").write_text("".join(lines[half::2]), "utf-8")
    label(folder / "sources", folder / "labels")


def label(data: Path, folder: Path, *flags: str, longest: int = 96) -> None:
    """Translate sources with the teacher; resumes, and returns at once if it is complete."""
    command = f"label --model {TEACHER} --data {data} --task translation --output_dir {folder}"
    languages = ("--src_lang", "en", "--tgt_lang", "de", "--max_target_length", str(longest))
    subprocess.run([sys.executable, "-m", "seq2seq_distill", *command.split(), *languages, *flags], check=True)


def label_three_ways(folder: Path) -> None:
    """Labels of the same 5,000 sources, whose candidates are chosen differently."""
    some = ("--n", "5000")
    label(DATA, folder / "top1", *some, "--beams", "5")
    label(DATA, folder / "best-bleu", *some, "--beams", "5", "--n_best", "5", "--keep", "best-bleu")
    # Epsilon sampling (Freitag et al. 2023, arXiv 2305.09860); transformers decodes a batch until its last draw ends:
    # small batches and a low limit are faster.
    draws = ("--sample", "true", "--n_best", "16", "--generate", '{"epsilon_cutoff": 0.02}', "--max_tokens", "512")
    label(DATA, folder / "mbr-chrf", *some, *draws, "--keep", "mbr-chrf", longest=48)


def label_with_log_probabilities(folder: Path) -> None:
    """Labels with the log-probability of each token."""
    label(DATA, folder / "labels", "--beams", "5", "--logprobs", "true")


def on_labels(name: str) -> tuple[str, ...]:
    """Plain training on a label set of the study, with the data's own val and test splits."""
    return ("--method", "sft", "--data", f"{{folder}}/{name}", str(DATA), "--data_weights", "1", "0")


OWN_VOCABULARY = (
    *("--teacher", "null", "--student.encoder_layers", "null", "--student.decoder_layers", "null"),
    *("--student.config", "configs/demo/translation-shape.yaml", "--student.vocab_size", "4000"),
    *("--optim.lr", "0.001", "--optim.warmup_steps", "200", "--loss.label_smoothing", "0.1"),
)
"""A student with fresh weights, which reads and writes other pieces than the teacher."""

STUDIES = {
    "monolingual": Study(
        steps=700,
        prepare=split_in_halves,
        settings={
            "references of one half": ("--method", "sft", "--data", "{folder}/pairs"),
            "the teacher's targets for the other half": (
                *("--method", "sft", "--data", "{folder}/labels", "{folder}/pairs", "--data_weights", "1", "0"),
            ),
            "both": ("--method", "sft", "--data", "{folder}/labels", "{folder}/pairs"),
        },
    ),
    "candidates": Study(
        steps=700,
        prepare=label_three_ways,
        settings={
            "the most probable of a beam search": on_labels("top1"),
            "the closest to the reference, of five (best-bleu)": on_labels("best-bleu"),
            "the least risk, of sixteen samples (mbr-chrf)": on_labels("mbr-chrf"),
        },
    ),
    "chunks": Study(
        steps=2000,
        prepare=label_with_log_probabilities,
        settings={
            "labels": (*on_labels("labels"), *OWN_VOCABULARY),
            "labels and likelihoods of chunks": (*on_labels("labels"), *OWN_VOCABULARY, "--loss.alpha_chunk", "1"),
        },
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--parallel", type=int, default=2, help="number of runs side by side, one thread each")
    parser.add_argument("--page", action="store_true", help="write the table alone")
    arguments = parser.parse_args()
    study, folder = STUDIES[arguments.study], RUNS / arguments.study
    if not arguments.page:
        study.prepare(folder)
        done = {(record["setting"], record["seed"]) for record in records_of(arguments.study)}
        wanted = [(setting, seed) for seed in arguments.seeds for setting in study.settings]
        with ThreadPoolExecutor(arguments.parallel) as pool:
            missing = [each for each in wanted if each not in done]
            for record in pool.map(lambda each: execute(arguments.study, *each), missing):
                with RECORDS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
    write_table(arguments.study)


def folder_of(study: str, setting: str, seed: int) -> Path:
    """Output folder of a run."""
    return RUNS / study / f"{list(STUDIES[study].settings).index(setting)}-{seed}"


def execute(study: str, setting: str, seed: int) -> dict[str, Any]:
    """Train one setting with one seed, and return its record."""
    out, steps = folder_of(study, setting, seed), str(STUDIES[study].steps)
    options = [option.replace("{folder}", str(RUNS / study)) for option in STUDIES[study].settings[setting]]
    options += ["--trainer.max_steps", steps, "--trainer.val_check_interval", steps, "--seed", str(seed)]
    start = time.monotonic()
    with open(f"{out}.log", "w", encoding="utf-8") as log:
        subprocess.run(
            [sys.executable, "-m", "seq2seq_distill", *COMMON, *options, "--output_dir", str(out)],
            **{"stdout": log, "stderr": log, "check": True, "env": {**os.environ, "OMP_NUM_THREADS": "1"}},
        )
    results = json.loads((out / "results.json").read_text("utf-8"))
    teacher = results["teacher"] or {}
    record = {
        **{"study": study, "setting": setting, "seed": seed, "steps": STUDIES[study].steps},
        **{name: round(results["student"][name], 2) for name in MEANS},
        **{f"teacher_{name}": round(teacher[name], 2) for name in MEANS if name in teacher},
        **{"minutes": round((time.monotonic() - start) / 60, 1), "options": " ".join(options)},
    }
    print(record, flush=True)
    return record


def write_table(study: str) -> None:
    """Write the table of a study between its marks in docs/results.md."""
    records = records_of(study)
    settings = [setting for setting in STUDIES[study].settings if any(r["setting"] == setting for r in records)]
    first = [r for r in records if r["setting"] == settings[0]]
    lines = [
        "| setting | BLEU, by seed | BLEU | chrF | length | p against the first |",
        "|---|---|---:|---:|---:|---:|",
    ]
    if "teacher_bleu" in first[0]:
        figures = " | ".join(f"{first[0][f'teacher_{name}']:.{places}f}" for name, places in MEANS.items())
        lines.append(f"| teacher | | {figures} | |")
    for setting in settings:
        runs = sorted((r for r in records if r["setting"] == setting), key=lambda r: r["seed"])
        seeds = sorted({r["seed"] for r in runs} & {r["seed"] for r in first})
        p = "" if setting == settings[0] else f"{comparison(study, settings[0], setting, seeds):.3f}"
        scores = ", ".join(f"{r['bleu']:.2f}" for r in runs)
        means = " | ".join(f"{mean(r[name] for r in runs):.{places}f}" for name, places in MEANS.items())
        lines.append(f"| {setting} | {scores} | {means} | {p} |")
    begin, end = f"<!-- study: {study} -->", f"<!-- end of study: {study} -->"
    head, rest = PAGE.read_text("utf-8").split(begin)
    PAGE.write_text("\n".join([head + begin, "", *lines, "", end]) + rest.split(end)[1], "utf-8")


def comparison(study: str, baseline: str, setting: str, seeds: list[int]) -> float:
    """p of the paired bootstrap between two settings, over the pooled test outputs of their seeds."""
    texts: dict[str, list[list[str]]] = {}
    references: list[str] = []
    for name in (baseline, setting):
        files = [folder_of(study, name, seed) / "test_generations.jsonl" for seed in seeds]
        outputs = [[json.loads(line) for line in file.read_text("utf-8").split("\n") if line] for file in files]
        texts[name] = [[output["student"] for output in of_seed] for of_seed in outputs]
        references = [output["reference"] for output in outputs[0]]
    return compare_pooled("translation", texts, references)["p"]


def records_of(study: str) -> list[dict[str, Any]]:
    """The finished runs of a study."""
    lines = RECORDS.read_text("utf-8").split("\n") if RECORDS.exists() else []
    return [record for record in map(json.loads, filter(None, lines)) if record["study"] == study]


if __name__ == "__main__":
    main()
