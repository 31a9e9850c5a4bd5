"""How much of its teacher's quality a student keeps: every run of docs/results.md, and the tables there.

    python -m benchmarks.students                 # built-in teachers: with and without distillation, and twins
    python -m benchmarks.students --multi30k      # also those of multi30k/teacher on multi30k/data

Every finished run adds a line to docs/results.jsonl; a recorded run is not repeated (remove its line to repeat it). Two
runs execute in parallel on one thread each, so that they share a machine with two cores evenly.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import mean, variance
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU

from benchmarks.evidence import label
from seq2seq_distill.metrics.corpus import rouge_per_example
from seq2seq_distill.metrics.significance import Mean, compare_systems

RECORDS = Path("docs/results.jsonl")
PAGE = Path("docs/results.md")
RUNS = Path("runs/students")
SEEDS = (1, 2, 3)
RESAMPLES, SEED = 1000, 12345
"""Of the paired bootstrap."""
SCORES = {"summarization": ("rougeL", "rouge1", "rouge2"), "translation": ("bleu", "chrf")}
"""In the tables, the main score first."""
STEPS = {"summarization": 2000, "translation": 3500}
KINDS = {
    "summarization": {"kd": SEEDS, "sft": SEEDS, "cached": SEEDS, "twin": SEEDS[:1]},
    "translation": {"kd": SEEDS, "labelled": SEEDS, "sft": SEEDS, "twin": SEEDS[:1]},
}
"""Kinds of students of the built-in teachers, with their seeds."""
LABELLING = {
    "demo-translation": ("demo:translation", "demo:translation"),
    # The candidate closest to the reference, out of five.
    "multi30k": ("multi30k/teacher", "multi30k/data", "--beams", "5", "--n_best", "5", "--keep", "best-bleu"),
}
"""Teacher, data and further flags of `distill label`, by group."""
MARKS = ("<!-- students -->", "<!-- end of students -->")


@dataclass(frozen=True)
class Run:
    """One training run."""

    group: str
    """The group of runs within which it is compared."""
    task: str
    kind: str
    """kd, cached (kd from a teacher cache), labelled (kd on pseudo-labels), sft, or twin (sft with the student's
    architecture and random initial weights)."""
    seed: int
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.group}-{self.kind}-{self.seed}"

    @property
    def folder(self) -> Path:
        return RUNS / self.name

    @property
    def command(self) -> list[str]:
        method = "sft" if self.kind in ("sft", "twin") else "kd"
        shape = RUNS / f"{self.group}-sft-{self.seed}" / "student_init"
        # The demo's configs set a depth, which does not go with --student.config.
        fresh = ["--student.config", str(shape), "--student.decoder_layers", "null"]
        layers = fresh if self.kind == "twin" else ["--student.decoder_layers", "1"]
        cache = ["--teacher_cache", str(RUNS / f"{self.group}-cache")] if self.kind == "cached" else []
        labels = []
        if self.kind == "labelled":
            labels = ["--data", str(labels_of(self.group)), LABELLING[self.group][1], "--data_weights", "1", "0"]
        return [
            *("distill", "--task", self.task, *self.arguments, *layers, "--method", method),
            *("--targets", "reference", *cache, *labels),
            *("--seed", str(self.seed), "--output_dir", str(self.folder)),
        ]


def labels_of(group: str) -> Path:
    """Folder of a group's pseudo-labels."""
    return RUNS / f"{group}-labels"


def demo_runs() -> list[Run]:
    """Students of the built-in teachers."""
    runs = []
    for task in SCORES:
        # Naming a teacher or data disables the demo's settings, so they come from the config of the bare command.
        own = ("--config", f"seq2seq_distill/demo/{task}.yaml", "--eval.n_test", "1000")
        own += ("--trainer.max_steps", str(STEPS[task]), "--trainer.val_check_interval", "500")
        runs += [Run(f"demo-{task}", task, kind, seed, own) for kind, seeds in KINDS[task].items() for seed in seeds]
    return runs


def multi30k_runs() -> list[Run]:
    """Students of a Marian teacher from outside this project, in the folder multi30k."""
    own = ("--config", "configs/translation/multi30k-en-de-6-1.yaml")
    return [Run("multi30k", "translation", kind, SEEDS[0], own) for kind in ("kd", "labelled", "sft")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--multi30k", action="store_true", help="also run those of multi30k/teacher and multi30k/data")
    parser.add_argument("--only", default="", help="only runs whose name contains this text")
    parser.add_argument("--parallel", type=int, default=2, help="number of parallel runs")
    arguments = parser.parse_args()
    runs = demo_runs() + (multi30k_runs() if arguments.multi30k else [])
    done = {record["name"] for record in read_records()}
    todo = [run for run in runs if run.name not in done and arguments.only in run.name]
    at_once = ("kd", "labelled", "sft")
    first, later = [r for r in todo if r.kind in at_once], [r for r in todo if r.kind not in at_once]
    for group in dict.fromkeys(run.group for run in todo if run.kind == "labelled"):
        model, data, *flags = LABELLING[group]
        label(model, data, labels_of(group), *flags)
    for wave in (first, later[:1], later[1:]):  # a twin needs a student's config; one run fills the cache for all
        with ThreadPoolExecutor(arguments.parallel) as pool:
            for record in pool.map(execute, wave):
                if record is not None:
                    append(record)
    for group in sorted({run.group for run in runs}):
        for kind in ("kd", "labelled"):
            compare(group, kind, runs)
    write_page()


def execute(run: Run) -> dict[str, Any] | None:
    """Run the command and return its record; None if it failed, with its log in the runs folder."""
    RUNS.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with open(RUNS / f"{run.name}.log", "w") as log:
        code = subprocess.run(
            [sys.executable, "-m", "seq2seq_distill", *run.command[1:]],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            check=False,
        ).returncode
    if code:
        print(f"{run.name} failed, see {log.name}", file=sys.stderr)
        return None
    results = json.loads((run.folder / "results.json").read_text())
    steps = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().split("\n") if line]
    print(f"{run.name}: {results['kept']}", flush=True)
    return {
        "name": run.name,
        "group": run.group,
        "task": run.task,
        "kind": run.kind,
        "seed": run.seed,
        "command": shlex.join(run.command),
        "minutes": round((time.monotonic() - start) / 60, 1),
        "steps": steps[-1]["step"],
        **results,
    }


def compare(group: str, kind: str, runs: Iterable[Run]) -> None:
    """Paired bootstrap of a kind against sft over the pooled test outputs of its seeds, once all are available."""
    records, name = read_records(), f"{group}: {kind} against sft"
    seeds = {run.seed for run in runs if run.group == group and run.kind == kind}
    own = [run for run in runs if run.group == group and run.kind in (kind, "sft") and run.seed in seeds]
    if name in {r["name"] for r in records} or not seeds:
        return
    if not {run.name for run in own} <= {r["name"] for r in records} or not all(run.folder.exists() for run in own):
        return
    texts: dict[str, list[list[str]]] = {"sft": [], kind: []}
    references: list[str] = []
    for run in sorted(own, key=lambda run: run.seed):
        lines = (run.folder / "test_generations.jsonl").read_text("utf-8").split("\n")
        outputs = [json.loads(line) for line in lines if line]
        texts[run.kind].append([output["student"] for output in outputs])
        references = [output["reference"] for output in outputs]
    found = compare_pooled(own[0].task, texts, references)
    append({"name": name, "group": group, "task": own[0].task, "kind": "comparison", "seeds": sorted(seeds), **found})


class PooledBLEU(BLEU):
    """BLEU over the outputs of several seeds: an example is an input, with the outputs of all seeds for it."""

    def _extract_corpus_statistics(self, hypotheses: Sequence[Any], references: Any) -> Any:
        seeds = [
            super(PooledBLEU, self)._extract_corpus_statistics(list(texts), references)
            for texts in zip(*hypotheses, strict=True)
        ]
        return np.sum(seeds, axis=0).tolist()


def compare_pooled(task: str, texts: dict[str, list[list[str]]], references: list[str]) -> dict[str, float]:
    """Paired bootstrap of the second system against the first over the outputs of all seeds (a list for each seed).

    Outputs for the same input are drawn together: seeds are no independent evidence of an input.
    """
    if task == "summarization":
        scores = {
            name: np.mean([rouge_per_example(own, references, ["rougeL"])["rougeL"] for own in seeds], axis=0).tolist()
            for name, seeds in texts.items()
        }
        found = compare_systems(Mean(), scores, None, RESAMPLES, SEED)
    else:
        pooled = {name: list(zip(*seeds, strict=True)) for name, seeds in texts.items()}
        found = compare_systems(PooledBLEU(), pooled, references, RESAMPLES, SEED)
    baseline, system = found.values()
    assert system.p is not None
    return {"score": system.score, "baseline": baseline.score, "p": system.p}


def write_page() -> None:
    """Write the tables between their marks in docs/results.md."""
    records = read_records()
    lines = [MARKS[0], ""]
    for group in dict.fromkeys(record["group"] for record in records):
        lines += group_table(group, [r for r in records if r["group"] == group])
    page = PAGE.read_text("utf-8")
    head, tail = page.split(MARKS[0])[0], page.split(MARKS[1])[1]
    PAGE.write_text(head + "\n".join([*lines, MARKS[1]]) + tail, "utf-8")


def group_table(group: str, records: list[dict[str, Any]]) -> list[str]:
    runs = [r for r in records if r["kind"] != "comparison"]
    names = SCORES[runs[0]["task"]]
    lines = [f"### {group}", "", f"| run | {' | '.join(names)} | {names[0]} kept | steps | minutes |"]
    lines.append("|---|" + "---:|" * (len(names) + 3))
    teacher = runs[0]["teacher"]
    lines.append(f"| teacher | {' | '.join(f'{teacher[n]:.2f}' for n in names)} | | | |")
    for kind in ("kd", "cached", "labelled", "sft", "twin"):
        own = sorted((r for r in runs if r["kind"] == kind), key=lambda r: r["seed"])
        for r in own:
            scores = " | ".join(f"{r['student'][n]:.2f}" for n in names)
            kept = f"{100 * r['kept'][names[0]]:.1f}%"
            lines.append(f"| {kind}, seed {r['seed']} | {scores} | {kept} | {r['steps']} | {r['minutes']} |")
        if len(own) > 1:
            scores = " | ".join(f"**{mean(r['student'][n] for r in own):.2f}**" for n in names)
            lines.append(f"| {kind}, mean | {scores} | **{100 * mean(r['kept'][names[0]] for r in own):.1f}%** | | |")
    for r in records:
        if r["kind"] == "comparison":
            lines += [
                "",
                f"{r['name'].split()[1]} {r['score']:.2f} against sft {r['baseline']:.2f} over the pooled outputs, "
                f"{'seeds' if len(r['seeds']) > 1 else 'seed'} {', '.join(map(str, r['seeds']))}: p = {r['p']:.4f}",
            ]
    commands = [f"    {r['command']}" for r in runs]
    appendix = ["<details>", "<summary>Commands</summary>", "", *commands, "", "</details>"]
    return [*lines, *cached_line(runs, names[0]), "", *appendix, ""]


def cached_line(runs: list[dict[str, Any]], name: str) -> list[str]:
    """Difference between the mean score of runs with a cache and that of runs with the live teacher."""
    scores = {kind: [r["student"][name] for r in runs if r["kind"] == kind] for kind in ("kd", "cached")}
    if min(map(len, scores.values())) < 2:
        return []
    error = sqrt(sum(variance(own) / len(own) for own in scores.values()))
    difference = mean(scores["cached"]) - mean(scores["kd"])
    return ["", f"cached less kd: {difference:+.2f} {name}, two standard errors: {2 * error:.2f}"]


def read_records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RECORDS.read_text("utf-8").split("\n") if line] if RECORDS.exists() else []


def append(record: dict[str, Any]) -> None:
    with open(RECORDS, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
