"""Scores on noisy sources: students of the study `parts` with and without noise, and their teacher.

    python -m benchmarks.study parts
    python -m benchmarks.stress          # --page writes the table alone

One `distill evaluate --stress` decodes for all models. The table in docs/results.md has means over the seeds, and in
parentheses what is lost in comparison with the clean sources.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean

from benchmarks.marked import replace_marked
from benchmarks.studies import MULTI30K, STUDIES
from benchmarks.study import NAMES, PAGE, RUNS, folder_of

KINDS = ("upper", "title", "typos", "no_stop", "emoji")
SETTINGS = ("recipe", "the encoder frozen", "with noise")
TEACHER = "teacher"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write the table alone")
    folder = RUNS / "stress"
    if not parser.parse_args().page:
        evaluate(folder)
    scores = json.loads((folder / "results.json").read_text("utf-8"))["stress"]
    PAGE.write_text(replace_marked(PAGE.read_text("utf-8"), "stress", table(scores)), "utf-8")


def evaluate(folder: Path) -> None:
    """Decode the clean and the noisy sources with all models."""
    runs = [(setting, seed) for setting in SETTINGS for seed in STUDIES["parts"].seeds]
    models = ["multi30k/teacher", *(str(folder_of("parts", *run) / "best") for run in runs)]
    names = [TEACHER, *(f"{setting}, {seed}" for setting, seed in runs)]
    command = ["evaluate", "--models", *models, "--names", *names, "--data", MULTI30K, "--output_dir", str(folder)]
    command += ["--task", "translation", "--src_lang", "en", "--tgt_lang", "de", "--max_target_length", "96"]
    command += ["--beams", "1", "--n_speed", "0", "--stress", *KINDS]
    subprocess.run([sys.executable, "-m", "seq2seq_distill", *command], check=True)


def table(scores: dict[str, dict[str, dict[str, float]]]) -> str:
    """Of the scores by kind, model and metric."""
    kinds = list(scores)
    lines = [f"| score | model | {' | '.join(kinds)} |", "|---|---|" + "---:|" * len(kinds)]
    for metric in ("bleu", "chrf"):
        for setting in (TEACHER, *SETTINGS):
            clean, *noisy = (over_seeds(scores[kind], setting, metric) for kind in kinds)
            cells = [f"{clean:.2f}", *(f"{score:.2f} ({clean - score:.2f})" for score in noisy)]
            lines.append(f"| {NAMES[metric]} | {setting} | {' | '.join(cells)} |")
    return "\n".join(lines)


def over_seeds(scores: dict[str, dict[str, float]], setting: str, metric: str) -> float:
    """The mean score of the models of a setting."""
    return mean(found[metric] for name, found in scores.items() if name.split(", ")[0] == setting)


if __name__ == "__main__":
    main()
