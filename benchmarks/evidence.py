"""Which losses and targets are worth using: students with one decoder layer, one setting each, equal numbers of steps.

    python -m benchmarks.evidence                              # all settings, seed 1
    python -m benchmarks.evidence --seeds 2 3 --only jsd sft   # repeat some

The teacher is multi30k/teacher, the data multi30k/data (symbolic links are fine). Two runs execute in parallel on one
thread each. Runs recorded in docs/evidence.jsonl are not repeated. The table is written to docs/results.md: validation
BLEU and chrF with greedy decoding, and seconds per step.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, median
from typing import Any

from pytorch_lightning import Callback

from seq2seq_distill.cli.main import parse
from seq2seq_distill.training.run import run_config

RECORDS = Path("docs/evidence.jsonl")
PAGE = Path("docs/results.md")
RUNS = Path("runs/evidence")
LABELS = RUNS / "labels"
MARKS = ("<!-- evidence -->", "<!-- end of evidence -->")
COMMON = (
    *("--config", "configs/translation/multi30k-en-de-6-1.yaml", "--student.decoder_layers", "1"),
    *("--targets", "reference", "--loss.temperature", "1", "--loss.alpha_ce", "0.8", "--loss.alpha_mlm", "0.2"),
    *("--eval.beams", "1", "--eval.n_val", "500", "--eval.n_test", "1", "--eval.n_speed", "0"),
)
LABELLED = ("--data", str(LABELS), "multi30k/data", "--data_weights", "1", "0")
# T^2 makes the term small below 1: its weight is doubled, as in the recipe.
SHARP = ("--loss.temperature", "0.5", "--loss.alpha_ce", "1.6")
SETTINGS: dict[str, tuple[str, ...]] = {
    "sft": ("--method", "sft"),
    **{
        name: ("--loss.divergence", name)
        for name in ("forward_kl", "reverse_kl", "jsd", "total_variation", "skewed_forward_kl", "skewed_reverse_kl")
    },
    "mse": ("--loss.divergence", "mse"),
    "forward_kl, T 2": ("--loss.temperature", "2"),
    "forward_kl, T 0.5": SHARP,
    "hidden mse": ("--loss.alpha_hid", "1"),
    "hidden cosine": ("--matches", '{"layers": "last", "loss": "cosine"}'),
    "on-policy 0.25": ("--loss.on_policy", "0.25"),
    "pseudo-labels": ("--method", "sft", *LABELLED),
    "pseudo-labels and forward_kl": LABELLED,
    "pseudo-labels and forward_kl, T 0.5": (*LABELLED, *SHARP),
}


class StepSeconds(Callback):
    """Records the duration of each step in seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=700, help="optimiser steps per run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--one", help="run only this setting in the current process, with the first seed")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run(given.one, given.seeds[0], given.steps)))
        return
    done = {(record["setting"], record["seed"], record["steps"]) for record in read_records()}
    wanted = [(name, seed, given.steps) for seed in given.seeds for name in given.only]
    missing = [each for each in wanted if each not in done]
    if any("pseudo" in name for name, *_ in missing):
        label("multi30k/teacher", "multi30k/data", LABELS)
    with ThreadPoolExecutor(2) as pool:
        for record in pool.map(in_a_process, missing):
            with open(RECORDS, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
    write_page()


def label(model: str, data: str, folder: Path, *flags: str) -> None:
    """Translate the training sources to German with the teacher; resumes, and returns at once if already complete."""
    command = f"label --model {model} --data {data} --task translation --output_dir {folder}"
    languages = ("--src_lang", "en", "--tgt_lang", "de", "--max_target_length", "96")
    subprocess.run([sys.executable, "-m", "seq2seq_distill", *command.split(), *languages, *flags], check=True)


def in_a_process(wanted: tuple[str, int, int]) -> dict[str, Any]:
    """The record of `run`, executed in a separate process with one thread."""
    name, seed, steps = wanted
    command = [sys.executable, "-m", "benchmarks.evidence", "--one", name, "--seeds", str(seed), "--steps", str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(record, flush=True)
    return record


def run(name: str, seed: int, steps: int) -> dict[str, Any]:
    """Train one setting and return its record."""
    folder = RUNS / f"{name.replace(' ', '_').replace(',', '')}-{seed}-{steps}"
    own = ("--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(steps), "--seed", str(seed))
    flags = dict(pairs([*COMMON, *own, "--output_dir", str(folder), *SETTINGS[name]]))
    arguments = [word for flag, values in flags.items() for word in (flag, *values)]
    timer = StepSeconds()
    run_config(parse("run", arguments), [timer])
    last = json.loads((folder / "metrics.jsonl").read_text("utf-8").splitlines()[-1])
    return {
        "setting": name,
        "seed": seed,
        "steps": steps,
        "bleu": round(last["val_bleu"], 2),
        "chrf": round(last["val_chrf"], 2),
        "seconds_per_step": round(median(timer.seconds), 3),
        "flags": " ".join(SETTINGS[name]),
    }


def pairs(words: list[str]) -> list[tuple[str, list[str]]]:
    """Each flag with its values, in order."""
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if word.startswith("--"):
            found.append((word, []))
        else:
            found[-1][1].append(word)
    return found


def write_page() -> None:
    """Write the table between its marks in docs/results.md, best mean first."""
    records = read_records()
    steps = max(record["steps"] for record in records)
    own = [record for record in records if record["steps"] == steps]
    names = dict.fromkeys(record["setting"] for record in own)
    rows = {name: [record for record in own if record["setting"] == name] for name in names}
    lines = [MARKS[0], "", f"{steps} steps each:", ""]
    lines += ["| setting | flags | BLEU, by seed | mean BLEU | mean chrF | s a step |", "|---|---|---|---:|---:|---:|"]
    for name in sorted(rows, key=lambda name: -mean(record["bleu"] for record in rows[name])):
        by_seed = sorted(rows[name], key=lambda record: record["seed"])
        bleu, chrf = (mean(record[key] for record in by_seed) for key in ("bleu", "chrf"))
        # The run that was disturbed least by other work, including shorter runs.
        seconds = min(record["seconds_per_step"] for record in records if record["setting"] == name)
        scores = ", ".join(f"{record['bleu']:.2f}" for record in by_seed)
        flags = by_seed[0]["flags"] and f"`{by_seed[0]['flags']}`"
        lines.append(f"| {name} | {flags} | {scores} | {bleu:.2f} | {chrf:.2f} | {seconds:.2f} |")
    page = PAGE.read_text("utf-8")
    head, tail = page.split(MARKS[0])[0], page.split(MARKS[1])[1]
    PAGE.write_text(head + "\n".join([*lines, "", MARKS[1]]) + tail, "utf-8")


def read_records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RECORDS.read_text("utf-8").splitlines()] if RECORDS.exists() else []


if __name__ == "__main__":
    main()
