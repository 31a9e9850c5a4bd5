"""Settings beside each other: students with equal numbers of steps, seed by seed.

    python -m benchmarks.study parts            # one study
    python -m benchmarks.study parts --seeds 1  # a part of it

`benchmarks/studies.py` says what is compared. Teachers and data from outside stand in folders (symbolic links are
fine): multi30k/teacher and multi30k/data, and so on. Each finished run adds a line to docs/studies.jsonl; a recorded
run is not repeated (remove its line to repeat it). The table is written to docs/results.md: scores on the test split,
means over seeds, the share of the teacher's scores that is kept with its 95% interval, and p of the paired bootstrap
against the first setting, both over the pooled outputs of the seeds.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import cached_property, partial
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.marked import replace_marked
from benchmarks.pooled import Outputs, PooledScores
from benchmarks.studies import STUDIES

RECORDS = Path("docs/studies.jsonl")
PAGE = Path("docs/results.md")
RUNS = Path("runs/studies")
METRICS = {"translation": ("bleu", "chrf"), "summarization": ("rougeL", "rouge2")}
"""In the tables, the one first whose seeds are shown."""
NAMES = {"bleu": "BLEU", "chrf": "chrF", "rougeL": "ROUGE-L", "rouge2": "ROUGE-2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--seeds", type=int, nargs="+", help="by default those of the study")
    parser.add_argument(
        "--precision",
        choices=("32-true", "bf16-mixed"),
        default="32-true",
        help="what is faster depends on the processor: python -m benchmarks.cpu_precision",
    )
    parser.add_argument("--parallel", type=int, default=2, help="number of runs side by side, one thread each")
    parser.add_argument("--page", action="store_true", help="write the table alone")
    arguments = parser.parse_args()
    study, folder = STUDIES[arguments.study], RUNS / arguments.study
    if not arguments.page:
        folder.mkdir(parents=True, exist_ok=True)
        study.prepare(folder)
        done = {(record["setting"], record["seed"]) for record in records_of(arguments.study)}
        wanted = [(setting, seed) for seed in arguments.seeds or study.seeds for setting in study.settings]
        missing = [each for each in wanted if each not in done]
        run = partial(execute, arguments.study, precision=arguments.precision)
        with ThreadPoolExecutor(arguments.parallel) as pool:
            for record in pool.map(lambda each: run(*each), missing):
                with RECORDS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
    write_table(arguments.study)


def folder_of(study: str, setting: str, seed: int) -> Path:
    """Output folder of a run."""
    return RUNS / study / f"{list(STUDIES[study].settings).index(setting)}-{seed}"


def execute(name: str, setting: str, seed: int, precision: str) -> dict[str, Any]:
    """Train one setting with one seed, and return its record."""
    study, out = STUDIES[name], folder_of(name, setting, seed)
    options = [each.replace("{folder}", str(RUNS / name)) for each in (*study.options, *study.settings[setting])]
    options += ["--trainer.max_steps", str(study.steps), "--trainer.val_check_interval", str(study.steps)]
    options += ["--seed", str(seed), "--trainer.precision", precision, "--output_dir", str(out)]
    start = time.monotonic()
    command = [sys.executable, "-m", "seq2seq_distill", "--task", study.task, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(f"{out}.log", "w", encoding="utf-8") as log:
        subprocess.run(command, stdout=log, stderr=log, check=True, env=environment)
    results = json.loads((out / "results.json").read_text("utf-8"))
    scores = (*METRICS[study.task], "gen_len")
    record = {
        "study": name,
        "setting": setting,
        "seed": seed,
        "steps": study.steps,
        **{metric: round(results["student"][metric], 2) for metric in scores},
        **{f"teacher_{metric}": round(results["teacher"][metric], 2) for metric in scores if results["teacher"]},
        "minutes": round((time.monotonic() - start) / 60, 1),
        "precision": precision,
        "date": str(date.today()),
        "options": " ".join(study.settings[setting]).replace("{folder}", str(RUNS / name)),
    }
    print(record, flush=True)
    return record


class TestOutputs:
    """What the runs of a study have written for the test split."""

    def __init__(self, name: str, seeds: list[int]) -> None:
        self._study, self._seeds = name, seeds

    def of(self, setting: str, role: str = "student") -> Outputs:
        """The outputs of a model, by seed."""
        return [[row[role] for row in self._rows(setting, seed)] for seed in self._seeds]

    @cached_property
    def references(self) -> list[str]:
        first = next(iter(STUDIES[self._study].settings))
        return [row["reference"] for row in self._rows(first, self._seeds[0])]

    @cached_property
    def teacher(self) -> Outputs | None:
        """The same for all seeds; None where no run of the study has a teacher."""
        for setting in STUDIES[self._study].settings:
            rows = self._rows(setting, self._seeds[0])
            if "teacher" in rows[0]:
                return [[row["teacher"] for row in rows]]
        return None

    def _rows(self, setting: str, seed: int) -> list[dict[str, str]]:
        file = folder_of(self._study, setting, seed) / "test_generations.jsonl"
        return [json.loads(line) for line in file.read_text("utf-8").split("\n") if line]


def write_table(name: str) -> None:
    """Write the table of a study between its marks in docs/results.md."""
    study, records = STUDIES[name], records_of(name)
    settings = recorded_settings(name)
    metrics, first = METRICS[study.task], settings[0]
    seeds = finished_seeds(name)
    outputs = TestOutputs(name, seeds)
    scores = {metric: PooledScores(metric, outputs.references) for metric in metrics}
    heads = [text for metric in metrics for text in (NAMES[metric], "kept")]
    lines = [
        f"| setting | {NAMES[metrics[0]]}, by seed | {' | '.join(heads)} | length | minutes | p |",
        "|---|---|" + "---:|" * (len(heads) + 3),
    ]
    # Of the first setting that has one: another may have trimmed its vocabulary.
    in_order = sorted(records, key=lambda r: settings.index(r["setting"]))
    teacher = next((r for r in in_order if f"teacher_{metrics[0]}" in r), None)
    if teacher:
        cells = [text for metric in metrics for text in (f"{teacher[f'teacher_{metric}']:.2f}", "")]
        lines.append(f"| teacher | | {' | '.join(cells)} | {teacher['teacher_gen_len']:.1f} | | |")
    for setting in settings:
        runs = sorted((r for r in records if r["setting"] == setting and r["seed"] in seeds), key=lambda r: r["seed"])
        cells = [", ".join(f"{r[metrics[0]]:.2f}" for r in runs)]
        for metric in metrics:
            cells.append(f"{mean(r[metric] for r in runs):.2f}")
            cells.append(kept_cell(scores[metric], outputs, setting))
        length = mean(r["gen_len"] for r in runs)
        cells.append(f"{length:.1f} ({length / teacher['teacher_gen_len']:.3f})" if teacher else f"{length:.1f}")
        cells.append(f"{mean(r['minutes'] for r in runs):.1f}")
        others = [] if setting == first else metrics
        cells.append(", ".join(f"{scores[metric].p(outputs.of(setting), outputs.of(first)):.3f}" for metric in others))
        lines.append(f"| {setting} | {' | '.join(cells)} |")
    PAGE.write_text(replace_marked(PAGE.read_text("utf-8"), f"study: {name}", "\n".join(lines)), "utf-8")


def kept_cell(scores: PooledScores, outputs: TestOutputs, setting: str) -> str:
    """The share of the teacher's score with its interval, in percent."""
    if outputs.teacher is None:
        return ""
    share, low, high = (100 * value for value in scores.kept(outputs.of(setting), outputs.teacher))
    return f"{share:.1f} ({low:.1f} to {high:.1f})"


def records_of(study: str) -> list[dict[str, Any]]:
    """The finished runs of a study."""
    lines = RECORDS.read_text("utf-8").split("\n") if RECORDS.exists() else []
    return [record for record in map(json.loads, filter(None, lines)) if record["study"] == study]


def recorded_settings(study: str) -> list[str]:
    """The settings with a finished run, in order."""
    recorded = {record["setting"] for record in records_of(study)}
    return [setting for setting in STUDIES[study].settings if setting in recorded]


def finished_seeds(study: str) -> list[int]:
    """The seeds that all settings with a finished run have."""
    seeds: dict[str, set[int]] = {}
    for record in records_of(study):
        seeds.setdefault(record["setting"], set()).add(record["seed"])
    return sorted(set.intersection(*seeds.values())) if seeds else []


if __name__ == "__main__":
    main()
