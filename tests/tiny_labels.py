"""A teacher with data, and the options that label them, for tests of `distill label`."""

from pathlib import Path

from seq2seq_distill.config.labels import LabelConfig
from tests.tiny_runs import save_teacher, write_data

ROWS, SHARD = 24, 5


def save_teacher_and_data(folder: Path) -> Path:
    """Save a Marian teacher and `ROWS` training pairs."""
    save_teacher(folder / "teacher")
    write_data(folder / "data", ROWS)
    return folder


def label_config(folder: Path, output_dir: Path) -> LabelConfig:
    """Five shards with transformers."""
    return LabelConfig(
        model=str(folder / "teacher"),
        data=[str(folder / "data")],
        output_dir=str(output_dir),
        task="translation",
        src_lang="en",
        tgt_lang="de",
        engine="transformers",
        beams=2,
        max_target_length=8,
        shard_rows=SHARD,
        min_words=1,
    )
