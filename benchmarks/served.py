"""Students of the study `shrinking` in transformers, and in CTranslate2 as int8 with and without a shortlist.

    python -m benchmarks.study shrinking
    python -m benchmarks.served          # --page writes the table alone

Exports each student twice, unless that is done already, and decodes the test split with all of them and their teacher
in one `distill evaluate`. Everything runs on one thread. Scores are those of batches of 32 sentences, times those of
single sentences. The table in docs/results.md has means over the seeds.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.marked import replace_marked
from benchmarks.studies import MULTI30K
from benchmarks.study import NAMES, PAGE, RUNS, finished_seeds, folder_of, recorded_settings

STUDY = "shrinking"
PLAIN, INT8, SHORTLIST = "transformers", "int8", "int8, shortlist"
EXPORTS = {INT8: (), SHORTLIST: ("--shortlist", "true")}
"""Options of `distill export`."""
TEACHER = "teacher"
METRICS = ("bleu", "chrf")

Model = dict[str, Any]
"""What `distill evaluate` writes about a model."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write the table alone")
    folder = RUNS / "served"
    if not parser.parse_args().page:
        evaluate(folder)
    models = json.loads((folder / "results.json").read_text("utf-8"))["models"]
    text = table(models, recorded_settings(STUDY), finished_seeds(STUDY))
    PAGE.write_text(replace_marked(PAGE.read_text("utf-8"), "served", text), "utf-8")


def evaluate(folder: Path) -> None:
    """Decode and time all students in all forms."""
    models = {TEACHER: Path("multi30k/teacher")}
    for setting in recorded_settings(STUDY):
        for seed in finished_seeds(STUDY):
            run = folder_of(STUDY, setting, seed)
            for form in (PLAIN, *EXPORTS):
                models[name_of(setting, seed, form)] = run / "best" if form == PLAIN else export(run, form, folder)
    command = ["evaluate", "--models", *map(str, models.values()), "--names", *models, "--data", MULTI30K]
    command += ["--task", "translation", "--src_lang", "en", "--tgt_lang", "de", "--max_target_length", "96"]
    distill(*command, "--beams", "1", "--n_speed", "100", "--output_dir", str(folder))


def export(run: Path, form: str, folder: Path) -> Path:
    """The folder of an exported student."""
    place = folder / "exported" / f"{run.name}{'-shortlist' * (form == SHORTLIST)}"
    if not (place / "export.json").is_file():
        command = ["export", "--model", str(run), "--quantization", "int8", "--output_dir", str(place)]
        distill(*command, *EXPORTS[form])
    return place


def distill(*command: str) -> None:
    """Run the command on one thread, also of CTranslate2, which takes those that it may run on."""
    core = {min(os.sched_getaffinity(0))}
    os.sched_setaffinity(0, core)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "seq2seq_distill", *command], check=True, env=environment)


def name_of(setting: str, seed: int, form: str) -> str:
    """Of a student, in the evaluation."""
    return f"{setting} ({seed}), {form}"


def table(models: list[Model], settings: list[str], seeds: list[int]) -> str:
    """A row for each setting and form, means over the seeds; sizes and times beside those of the first setting in the
    same form."""
    by_name = {model["name"]: model for model in models}
    teacher = by_name[TEACHER]
    heads = [text for metric in METRICS for text in (NAMES[metric], "kept")]
    lines = [
        f"| student | form | {' | '.join(heads)} | MB | of the whole | ms a sentence | times as fast |",
        "|---|---|" + "---:|" * (len(heads) + 4),
    ]
    scores = [text for metric in METRICS for text in (f"{score(teacher, metric):.2f}", "")]
    lines.append(f"| teacher | | {' | '.join(scores)} | {megabytes(teacher):.1f} | | {latency(teacher):.1f} | |")
    for form in (PLAIN, *EXPORTS):
        whole = [by_name[name_of(settings[0], seed, form)] for seed in seeds]
        for setting in settings:
            found = [by_name[name_of(setting, seed, form)] for seed in seeds]
            cells = []
            for metric in METRICS:
                value = mean(score(model, metric) for model in found)
                cells += [f"{value:.2f}", f"{100 * value / score(teacher, metric):.1f}%"]
            size, time = mean(map(megabytes, found)), mean(map(latency, found))
            cells += [f"{size:.1f}", f"{size / mean(map(megabytes, whole)):.2f}"]
            cells += [f"{time:.1f}", f"{mean(map(latency, whole)) / time:.2f}"]
            lines.append(f"| {setting} | {form} | {' | '.join(cells)} |")
    return "\n".join(lines)


def score(model: Model, metric: str) -> float:
    value = model["scores"][metric]["score"]
    assert isinstance(value, float)
    return value


def megabytes(model: Model) -> float:
    """Of the weight files."""
    return float(model["bytes"]) / 1e6


def latency(model: Model) -> float:
    """The median time of a sentence, in milliseconds."""
    return float(model["speed"]["latency_ms"])


if __name__ == "__main__":
    main()
