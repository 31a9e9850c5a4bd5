"""Whether `distill plan` is right: its speed, sizes and losses beside those of trained students of the same layouts.

    python -m benchmarks.layouts --config configs/translation/multi30k-en-de-6-1.yaml --teacher multi30k/teacher \
        --labels LABELS --data multi30k/data --steps 600 --output_dir runs/layouts

Trains a student of each of five layouts that differ in depth, feed-forward and vocabulary, unless its folder holds a
trained one already. Prints one JSON line for each of the first three, with predicted speed and size beside those that
`distill evaluate` measures; one for each student, with the losses on val of the trial and of the trained student; and
for each number of trial steps the rank correlation (Spearman) of the two.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import AutoConfig

from benchmarks.trial import parse_run
from seq2seq_distill.config import RunConfig, TrimConfig
from seq2seq_distill.models import architectures
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.training.components import teacher_and_views
from seq2seq_distill.training.output_folder import OutputFolder
from seq2seq_distill.training.trial import ValidationRows, loss_per_token, trial_loss

COMPARED = 3
"""Students whose costs are compared."""


class Shape(NamedTuple):
    """A layout in parts of the teacher."""

    encoder: float
    decoder: float
    ffn: float
    vocabulary: float

    def layers(self, depths: tuple[int, int]) -> tuple[int, int]:
        """Encoder and decoder layers."""
        encoder, decoder = (max(1, round(part * depth)) for part, depth in zip(self[:2], depths, strict=True))
        return encoder, decoder


SHAPES = {
    "shallow": Shape(1, 1 / 6, 1, 1),
    "both": Shape(1, 1 / 6, 0.5, 0.5),
    "short": Shape(0.5, 1 / 3, 0.5, 1),
    "wide": Shape(1, 0.5, 1, 1),
    "small": Shape(0.5, 1 / 6, 0.25, 0.25),
}


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="of a run, but for teacher, data, student and steps")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--data", required=True, help="folder of the val and test splits, and of train without labels")
    parser.add_argument("--labels", help="label set to train on")
    parser.add_argument("--output_dir", required=True, help="folder for the runs")
    parser.add_argument("--steps", type=int, default=1250, help="of training")
    parser.add_argument("--trial_steps", nargs="*", type=int, default=[0, 100])
    parser.add_argument("--engines", nargs="*", choices=("transformers", "ctranslate2"), default=["transformers"])
    parser.add_argument("--students", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--n_speed", type=int, default=100)
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="further options of all runs")
    return parser


def main(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The records, printed as they come."""
    folders = {name: train(arguments, name) for name in arguments.students}
    records = []
    for engine in arguments.engines:
        records += costs(arguments, engine, dict(list(folders.items())[:COMPARED]))
    if arguments.trial_steps:
        records += losses(arguments, list(folders.values()))
    return records


def train(arguments: argparse.Namespace, name: str) -> Path:
    """The folder of a trained student."""
    folder, shape = Path(arguments.output_dir) / name, SHAPES[name]
    if not (folder / "results.json").is_file():
        encoder, decoder = shape.layers(teacher_depths(arguments))
        flags = ["--student.encoder_layers", encoder, "--student.decoder_layers", decoder]
        if shape.ffn < 1:
            flags += ["--student.encoder_ffn_dim", shape.ffn, "--student.decoder_ffn_dim", shape.ffn]
        if shape.vocabulary < 1:
            flags += ["--trim.size", round(shape.vocabulary * teacher_config(arguments).vocab_size)]
        distill(*run_flags(arguments), *flags, "--trainer.max_steps", arguments.steps, "--output_dir", folder)
    return folder


def costs(arguments: argparse.Namespace, engine: str, folders: dict[str, Path]) -> list[dict[str, Any]]:
    """Predicted and measured speed and size of each student."""
    depths, shapes = teacher_depths(arguments), [SHAPES[name] for name in folders]
    layers = [shape.layers(depths) for shape in shapes]
    steps: dict[str, set[float]] = {
        "encoder_depths": {depths[0], *(encoder for encoder, _ in layers)},
        "decoder_depths": {depths[1], *(decoder for _, decoder in layers)},
        "ffn": {1.0, *(shape.ffn for shape in shapes)},
        "vocabulary": {1.0, *(shape.vocabulary for shape in shapes)},
    }
    flags = [word for name, values in steps.items() for word in (f"--{name}", *sorted(values))]
    report = json.loads(distill("plan", *run_flags(arguments), *flags, "--engine", engine).splitlines()[-1])
    measured = evaluate(arguments, engine, folders)
    records = []
    for name, folder in folders.items():
        layout = layout_of(folder)
        predicted = next(each for each in report["layouts"] if layout.items() <= each.items())
        speedup, size = measured[name]["speed"]["speedup"], measured[name]["bytes"]
        records.append(
            show(
                engine=engine,
                student=name,
                layout=predicted["name"],
                predicted_speedup=round(predicted["speedup"], 3),
                speedup=round(speedup, 3),
                speedup_ratio=round(predicted["speedup"] / speedup, 3),
                bytes_ratio=round(predicted["bytes"] / size, 3),
            )
        )
    return records


def evaluate(arguments: argparse.Namespace, engine: str, folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What `distill evaluate` measures, by student, with the teacher as the first model."""
    models = {"teacher": arguments.teacher, **{name: str(folder / "best") for name, folder in folders.items()}}
    place, run = Path(arguments.output_dir), parse_run(run_flags(arguments))
    languages: list[object] = ["--src_lang", run.src_lang, "--tgt_lang", run.tgt_lang] if run.src_lang else []
    if engine == "ctranslate2":
        for name, model in models.items():
            models[name] = str(place / f"{name}-int8")
            if not Path(models[name]).exists():
                data = ("--data", arguments.data, "--task", run.task, *languages)
                distill("export", "--model", model, "--quantization", "int8", *data, "--output_dir", models[name])
    out = place / f"evaluation-{engine}"
    named = ("--models", *models.values(), "--names", *models)
    flags = ["--task", run.task, "--data", arguments.data, *languages, "--n", 200, "--n_speed", arguments.n_speed]
    flags += ["--beams", run.eval.beams] if run.eval.beams else []
    distill("evaluate", *named, *flags, "--output_dir", out)
    return {each["name"]: each for each in json.loads((out / "results.json").read_text())["models"]}


def losses(arguments: argparse.Namespace, folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Losses on val after trials and after the training, and how well the ones order the others."""
    runs = [run_of(folder, arguments) for folder in folders]
    views = [teacher_and_views(run)[1][0] for run in runs]
    whole = teacher_and_views(parse_run(run_flags(arguments)))[1][0]
    limit = architectures.max_positions(teacher_config(arguments))[1]
    val = ValidationRows.of(whole.data.references("val"), whole.tokenizer, [view.tokenizer for view in views], limit)
    records, trained = [], []
    trials: dict[int, list[float]] = {steps: [] for steps in arguments.trial_steps}
    for folder, run in zip(folders, runs, strict=True):
        view = teacher_and_views(replace(run, eval=replace(run.eval, max_target_length=val.max_length)))[1][0]
        trained.append(loss_per_token(load_pretrained(folder / "best"), view.tokenizer, view.data, val))
        for steps, found in trials.items():
            found.append(trial_loss(run, val, steps))
        trial = {str(steps): round(found[-1], 4) for steps, found in trials.items()}
        records.append(show(student=folder.name, trained_loss=round(trained[-1], 4), trial_losses=trial))
    for steps, found in trials.items():
        records.append(show(trial_steps=steps, spearman=round(spearman(found, trained), 3), students=len(folders)))
    return records


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation of two series without ties."""
    one, other = (np.argsort(np.argsort(series)) for series in (first, second))
    return float(np.corrcoef(one, other)[0, 1]) if len(first) > 1 else 1.0


def run_of(folder: Path, arguments: argparse.Namespace) -> RunConfig:
    """The run of a student, with the teacher that was trimmed there."""
    flags = ["--config", str(folder / "run.yaml"), "--teacher", arguments.teacher]
    run = parse_run(flags)
    trimmed = OutputFolder(folder).trimmed
    return replace(run, teacher=str(trimmed), trim=TrimConfig()) if run.trim.is_on else run


def layout_of(folder: Path) -> dict[str, int]:
    """Sizes of a trained student, as a plan names them."""
    config = AutoConfig.from_pretrained(folder / "best")
    encoder, decoder = architectures.depths(config)
    ffn = architectures.ffn_dims(config)
    sizes = {"encoder_layers": encoder, "decoder_layers": decoder, "encoder_ffn_dim": ffn[0], "decoder_ffn_dim": ffn[1]}
    return {**sizes, "vocabulary": config.vocab_size}


def teacher_config(arguments: argparse.Namespace) -> Any:
    return AutoConfig.from_pretrained(arguments.teacher)


def teacher_depths(arguments: argparse.Namespace) -> tuple[int, int]:
    return architectures.depths(teacher_config(arguments))


def run_flags(arguments: argparse.Namespace) -> list[str]:
    """What all runs have in common."""
    flags = ["--config", arguments.config, "--teacher", arguments.teacher, "--targets", "reference", "--data"]
    data = [arguments.data] if arguments.labels is None else [arguments.labels, arguments.data]
    weights = [] if arguments.labels is None else ["--data_weights", "1", "0"]
    return [*flags, *data, *weights, *arguments.extra]


def distill(*words: object) -> str:
    """Run the command and return what it writes to standard output."""
    command = [sys.executable, "-m", "seq2seq_distill", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def show(**figures: Any) -> dict[str, Any]:
    """The figures, printed."""
    print(json.dumps({"benchmark": "layouts", **figures}), flush=True)
    return figures


if __name__ == "__main__":
    main(options().parse_args())
