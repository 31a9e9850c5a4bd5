"""What `benchmarks.study` compares."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Options = tuple[str, ...]


def nothing(_: Path) -> None:
    """What most studies have to prepare."""


@dataclass(frozen=True)
class Study:
    """Settings to compare."""

    task: str
    options: Options
    """Of every run."""
    steps: int
    """Of each run."""
    settings: dict[str, Options]
    """Options of each setting; {folder} stands for the study's folder. The others are compared with the first."""
    prepare: Callable[[Path], None] = nothing
    """Makes what the settings share, in the study's folder; may be called again."""
    seeds: tuple[int, ...] = (1, 2, 3)


def label(teacher: Options, data: str, folder: Path, *options: str) -> None:
    """Write the teacher's targets for the training sources; resumes, and returns at once if they are complete."""
    command = ("label", *teacher, "--data", data, "--output_dir", str(folder), *options)
    subprocess.run([sys.executable, "-m", "seq2seq_distill", *command], check=True)


REFERENCE: Options = ("--targets", "reference")
SFT: Options = ("--method", "sft", *REFERENCE)


def on_labels(name: str, data: str) -> Options:
    """Training on a label set of the study, with the data's own val and test splits."""
    return (*REFERENCE, "--data", f"{{folder}}/{name}", data, "--data_weights", "1", "0")


QUIET: Options = ("--eval.n_speed", "0", "--logger", "[]", "--trainer.enable_progress_bar", "false")
"""Of all runs."""

TARGETS = {"targets of the teacher": (), "targets of the data": REFERENCE, "shrink and fine-tune (sft)": SFT}
"""A recipe as it is, with the targets of the data, and without a teacher."""


def recipe(config: str, task: str, steps: int = 2500) -> Study:
    """How much of its teacher's quality a recipe keeps, with one seed."""
    options = ("--config", f"configs/{task}/{config}.yaml", "--eval.n_test", "1000", "--eval.n_val", "50", *QUIET)
    return Study(task, options, steps, dict(TARGETS), seeds=(1,))


def demo(task: str, steps: int) -> Study:
    """The same of a built-in teacher, which labels once for all seeds."""
    name = f"demo:{task}"
    options = ("--config", f"seq2seq_distill/demo/{task}.yaml", "--eval.n_test", "1000", *QUIET)
    settings = {**TARGETS, "targets of the teacher": on_labels("labels", name)}
    return Study(task, options, steps, settings, lambda folder: label(("--model", name), name, folder / "labels"))


# Multi30k

MULTI30K = "multi30k/data"
GREEDY: Options = ("--eval.beams", "1", "--eval.n_val", "100", "--eval.n_test", "1000")
SHORT: Options = ("--config", "configs/translation/multi30k-en-de-6-1.yaml", *GREEDY, *QUIET)
"""Of the short runs, whose test decodes greedily."""


FROZEN: Options = ("--student.freeze_encoder", "true")
"""The encoder as the teacher has it."""
TEACHERS_DROPOUT: Options = ("--student.dropout", "null", "--optim.ema", "null")
"""Regularised as the teacher, and without averaged weights."""


def label_multi30k(data: Path | str, folder: Path, *options: str, longest: int = 96) -> None:
    """Targets of the teacher of Multi30k."""
    teacher = ("--task", "translation", "--model", "multi30k/teacher", "--src_lang", "en", "--tgt_lang", "de")
    label(teacher, str(data), folder, "--max_target_length", str(longest), *options)


def split_in_halves(folder: Path) -> None:
    """Sources of every other row without references, labelled by the teacher; the other rows with references."""
    for split in ("train", "val", "test"):
        sides = {
            side: Path(MULTI30K, f"{split}.{side}").read_text("utf-8").splitlines(True) for side in ("source", "target")
        }
        for half in (0, 1):
            place = folder / ("sources", "pairs")[half]
            place.mkdir(parents=True, exist_ok=True)
            for side, lines in sides.items():
                if split != "train":
                    (place / f"{split}.{side}").write_text("".join(lines), "utf-8")
                elif half or side == "source":
                    (place / f"{split}.{side}").write_text("".join(lines[half::2]), "utf-8")
    label_multi30k(folder / "sources", folder / "labels")


def label_three_ways(folder: Path) -> None:
    """Labels of the same 5,000 sources, whose candidates are chosen differently."""
    some = ("--n", "5000")
    label_multi30k(MULTI30K, folder / "top1", *some, "--beams", "5")
    label_multi30k(MULTI30K, folder / "best-bleu", *some, "--beams", "5", "--n_best", "5", "--keep", "best-bleu")
    # Epsilon sampling (Freitag et al. 2023, arXiv 2305.09860); transformers decodes a batch until its last draw ends:
    # small batches and a low limit are faster.
    draws = ("--sample", "true", "--n_best", "16", "--generate", '{"epsilon_cutoff": 0.02}', "--max_tokens", "512")
    label_multi30k(MULTI30K, folder / "mbr-chrf", *some, *draws, "--keep", "mbr-chrf", longest=48)


def label_with_log_probabilities(folder: Path) -> None:
    """Labels with the log-probability of each token."""
    label_multi30k(MULTI30K, folder / "labels", "--beams", "5", "--logprobs", "true")


def label_all(folder: Path) -> None:
    """The most probable target of each source."""
    label_multi30k(MULTI30K, folder / "labels", "--beams", "5")


LABELS = on_labels("labels", MULTI30K)


def trimmed_to(size: int | None) -> Options:
    """The teacher's outputs from a cache, of the whole vocabulary or of a part."""
    trim = () if size is None else ("--trim.size", str(size))
    return ("--teacher_cache", f"{{folder}}/cache-{size or 'whole'}", *trim)


WHOLE, HALF_OF_PIECES, THIRD_OF_PIECES = trimmed_to(None), trimmed_to(3000), trimmed_to(2000)


def label_and_cache(folder: Path) -> None:
    """Labels, and the teacher's outputs for each vocabulary."""
    label_all(folder)
    for vocabulary in (WHOLE, HALF_OF_PIECES, THIRD_OF_PIECES):
        options = ("--task", "translation", *SHORT, *LABELS, *vocabulary)
        command = [option.replace("{folder}", str(folder)) for option in options]
        subprocess.run([sys.executable, "-m", "seq2seq_distill", "cache", *command], check=True)


def feed_forward(part: float) -> Options:
    """A part of the teacher's feed-forward width."""
    return ("--student.encoder_ffn_dim", str(part), "--student.decoder_ffn_dim", str(part))


HALF = feed_forward(0.5)
OWN_VOCABULARY: Options = (
    *("--teacher", "null", "--student.encoder_layers", "null", "--student.decoder_layers", "null"),
    *("--student.config", "configs/demo/translation-shape.yaml", "--student.vocab_size", "4000"),
    *("--optim.lr", "0.001", "--optim.encoder_lr", "null", "--optim.warmup_steps", "200"),
    *("--loss.label_smoothing", "0.1"),
)
"""A randomly initialised student, which reads and writes other pieces than the teacher."""

STUDIES = {
    "multi30k-en-de": recipe("multi30k-en-de-6-1", "translation"),
    "debian-en-fr": recipe("debian-en-fr-6-1", "translation"),
    "debian-synopsis": recipe("debian-synopsis-6-1", "summarization"),
    "demo-translation": demo("translation", 1100),
    "demo-summarization": demo("summarization", 1200),
    "parts": Study(
        task="translation",
        options=SHORT,
        steps=700,
        prepare=label_all,
        settings={
            "recipe": LABELS,
            "the encoder frozen": (*LABELS, *FROZEN),
            "with subword sampling": (*LABELS, "--noise.subword_sampling", "0.2"),
            "with noise": (*LABELS, "--noise.preset", "firefox"),
        },
    ),
    "frozen-parts": Study(
        task="translation",
        options=(*SHORT, *FROZEN),
        steps=700,
        prepare=label_all,
        settings={
            "the encoder frozen": LABELS,
            "targets of the data": REFERENCE,
            "temperature 2": (*LABELS, "--loss.temperature", "2", "--loss.alpha_ce", "0.8"),
            "without averaging": (*LABELS, "--optim.ema", "null"),
        },
    ),
    "shrinking": Study(
        task="translation",
        options=(*SHORT, *LABELS),
        steps=1250,
        prepare=label_and_cache,
        settings={
            "whole": WHOLE,
            "half of the feed-forward": (*HALF, *WHOLE),
            "half of the feed-forward, not repaired": (*HALF, "--student.repair", "false", *WHOLE),
            "vocabulary of 3,000": HALF_OF_PIECES,
            "half of the feed-forward, vocabulary of 3,000": (*HALF, *HALF_OF_PIECES),
            "a quarter of the feed-forward, vocabulary of 2,000": (*feed_forward(0.25), *THIRD_OF_PIECES),
            # The trimmed teacher has seldom seen words in so many pieces; the labels are those of the whole one.
            "vocabulary of 3,000, cross-entropy alone": ("--method", "sft", "--trim.size", "3000"),
            "a quarter of the feed-forward": (*feed_forward(0.25), *WHOLE),
        },
    ),
    "monolingual": Study(
        task="translation",
        options=(*SHORT, *FROZEN, *TEACHERS_DROPOUT),
        steps=700,
        prepare=split_in_halves,
        settings={
            "references of one half": (*SFT, "--data", "{folder}/pairs"),
            "the teacher's targets for the other half": (
                *SFT,
                *("--data", "{folder}/labels", "{folder}/pairs", "--data_weights", "1", "0"),
            ),
            "both": (*SFT, "--data", "{folder}/labels", "{folder}/pairs"),
        },
    ),
    "candidates": Study(
        task="translation",
        options=(*SHORT, *FROZEN, *TEACHERS_DROPOUT, *SFT),
        steps=700,
        prepare=label_three_ways,
        settings={
            "the most probable of a beam search": on_labels("top1", MULTI30K),
            "the closest to the reference, of five (best-bleu)": on_labels("best-bleu", MULTI30K),
            "the minimum Bayes risk, of sixteen samples (mbr-chrf)": on_labels("mbr-chrf", MULTI30K),
        },
    ),
    "chunks": Study(
        task="translation",
        options=(*SHORT, *TEACHERS_DROPOUT, *SFT),
        steps=2000,
        prepare=label_with_log_probabilities,
        settings={
            "labels": (*on_labels("labels", MULTI30K), *OWN_VOCABULARY),
            "labels and likelihoods of chunks": (
                *on_labels("labels", MULTI30K),
                *OWN_VOCABULARY,
                *("--loss.alpha_chunk", "1"),
            ),
        },
    ),
}
