"""The output folder: its layout, and writes that happen whole or not at all."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill.config import RunConfig
from seq2seq_distill.errors import ConfigError

PACKAGES = ("seq2seq-distill", "torch", "pytorch-lightning", "transformers", "tokenizers", "datasets", "sacrebleu")
# What may change from one start of a run to the next without another result.
FREE_KEYS = (
    "output_dir",
    "resume",
    "logger",
    "provenance",
    "batch.workers",
    "eval.n_speed",
    "trainer.enable_progress_bar",
)


class OutputFolder:
    """Paths of a run's files and folders. Only process 0 may write."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.run_yaml = self.path / "run.yaml"
        self.student_init = self.path / "student_init"
        self.best = self.path / "best"
        self.checkpoints = self.path / "checkpoints"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.metrics = self.path / "metrics.jsonl"
        self.results = self.path / "results.json"
        self.test_generations = self.path / "test_generations.jsonl"
        self.logs = self.path / "logs"

    def create(self) -> None:
        """Make the folder; `ConfigError` if that cannot be."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"--output_dir {self.path}: {error.strerror}; choose a folder that can be written"
            ) from None

    def write_run(self, config: RunConfig, provenance: Mapping[str, Any]) -> None:
        """Write run.yaml: the resolved config, from which the run can be repeated, and where it came from."""
        record = {**plain(config), "provenance": dict(provenance)}
        write_text(self.run_yaml, yaml.safe_dump(record, sort_keys=False, allow_unicode=True))

    def read_run(self) -> dict[str, Any]:
        """What run.yaml holds; empty if there is none."""
        return yaml.safe_load(self.run_yaml.read_text("utf-8")) if self.run_yaml.exists() else {}

    def differences(self, config: RunConfig) -> list[str]:
        """Options that would change the result and differ from the run in the folder, a line each."""
        old, new = _flat(self.read_run()), _flat(plain(config))
        return [
            f"--{name} {new[name]} differs from {old[name]} of the run in {self.path}"
            for name in new
            if name in old and old[name] != new[name] and name not in FREE_KEYS
        ]

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return (
            [json.loads(line) for line in self.metrics.read_text("utf-8").split("\n") if line]
            if self.metrics.exists()
            else []
        )


def plain(config: RunConfig) -> dict[str, Any]:
    """The config as dicts, lists, strings and numbers."""
    return json.loads(json.dumps(asdict(config)))


def provenance(data_fingerprint: str) -> dict[str, Any]:
    """Versions, git commit of the working folder, and a hash over the data."""
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        commit = git.stdout.strip() or None
    except OSError:  # there is no git
        commit = None
    return {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "git_commit": commit,
        "data_fingerprint": data_fingerprint,
    }


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder beside `path`, then put it in its place; if that fails, what was there stays."""
    temporary, old = (path.with_name(f".{path.name}.{end}") for end in ("new", "old"))
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def check_free(path: Path) -> None:
    """`ConfigError` unless a folder can be made there, or is and holds nothing that it would replace."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    except OSError as error:
        raise ConfigError(f"--output_dir {path}: {error.strerror}; choose a folder that can be written") from None
    if taken:
        raise ConfigError(f"--output_dir {path} is there already: choose a new folder, or remove it")


def save_model(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, card: str | None = None) -> None:
    """Save a model with its tokenizer, and a card if there is one, in Hugging Face format."""

    def fill(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if card is not None:
            (folder / "README.md").write_text(card, encoding="utf-8")

    write_folder(path, fill)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict) and key in ("student", "encode", "batch", "loss", "optim", "eval", "trainer"):
            flat.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            flat[key] = value
    return flat
