"""The output folder: its layout, its lock, and the record of the run in it."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.config import RunConfig
from seq2seq_distill.config.losses import OPEN_LOSSES
from seq2seq_distill.config.run_record import RUN_YAML, load_run_record
from seq2seq_distill.utils.errors import ConfigError
from seq2seq_distill.utils.files import backup_path, staging_path, write_folder, write_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PACKAGES = ("seq2seq-distill", "torch", "pytorch-lightning", "transformers", "tokenizers", "datasets", "sacrebleu")
# What may change from one start of a run to the next without another result.
FREE_KEYS = (
    "output_dir",
    "resume",
    "logger",
    "on_nonfinite",
    "provenance",
    "batch.workers",
    "encode.verify",
    "encode.workers",
    "eval.n_speed",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.shard_teacher",
    "trainer.max_time",
    "trainer.save_every_n_steps",
    "trainer.save_every_minutes",
    "trainer.log_every_n_steps",
    "trainer.enable_progress_bar",
)


class OutputFolder:
    """Paths of a run's files and folders. Only process 0 may write."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.run_yaml = self.path / RUN_YAML
        self.trimmed = self.path / "trimmed"
        self.labels = self.path / "labels"
        self.student_init = self.path / "student_init"
        self.best = self.path / "best"
        self.checkpoints = self.path / "checkpoints"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.previous_checkpoint = self.checkpoints / "previous.ckpt"
        self.metrics = self.path / "metrics.jsonl"
        self.results = self.path / "results.json"
        self.test_generations = self.path / "test_generations.jsonl"
        self.nonfinite = self.path / "nonfinite.json"
        self.logs = self.path / "logs"

    def create(self) -> None:
        """Make the folder; `ConfigError` if that cannot be."""
        refuse_url(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"`output_dir` {self.path}: {error.strerror}; choose a folder that can be written"
            ) from None
        own = [path for path in vars(self).values() if path != self.path]
        hidden = [self.path / ".lock", self.path / ".owner", *self.path.glob(".*.new"), *self.path.glob(".*.old")]
        logs = [*self.logs.glob("*"), *self.logs.glob("version_*/*")]
        _refuse_links([*own, *hidden, *self.checkpoints.rglob("*"), *logs])

    def recover(self) -> None:
        """Put right what a kill between two renames left: a folder whose name is missing gets its old content."""
        for path in (self.trimmed, self.student_init, self.best):
            old = backup_path(path)
            if old.exists() and not path.exists():
                os.replace(old, path)
            shutil.rmtree(old, ignore_errors=True)
        for left in [*self.path.glob(".*.new"), *self.checkpoints.glob(".*.new")]:
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and hold it for this run; the system frees it when the process ends, however that comes.

        Raises:
            ConfigError: it cannot be made, or another run holds it.
        """
        self.create()
        lock, owner = FileLock(self.path / ".lock", blocking=False), self.path / ".owner"
        try:
            lock.acquire()
        except Timeout:
            whose = owner.read_text("utf-8").strip() if owner.exists() else "another process"
            raise ConfigError(
                f"`output_dir` {self.path} is in use by {whose}: wait until it ends, or choose another folder"
            ) from None
        try:
            since = datetime.now().astimezone().isoformat(timespec="seconds")
            write_text(owner, f"process {os.getpid()} on {platform.node()} since {since}\n")
            yield
        finally:
            owner.unlink(missing_ok=True)
            (self.path / ".lock").unlink(missing_ok=True)
            lock.release()
            with suppress(OSError):
                self.path.rmdir()  # if nothing came of it

    def write_run(self, config: RunConfig, provenance: Mapping[str, Any]) -> None:
        """Write run.yaml: the resolved config, from which the run can be repeated, and where it came from."""
        record = {**plain(config), "provenance": dict(provenance)}
        write_text(self.run_yaml, yaml.safe_dump(record, sort_keys=False, allow_unicode=True))

    def read_run(self) -> dict[str, Any]:
        """What run.yaml holds; empty if there is none. `ConfigError` if it is not as a run writes it."""
        return load_run_record(self.run_yaml)

    def differences(self, config: RunConfig) -> list[str]:
        """Options that would change the result and differ from the run in the folder, a line each."""
        new = _flat(plain(config))
        old = {**_flat(plain(RunConfig())), **_flat(self.read_run())}  # an older version knew fewer options
        return [
            f"`{name}` {new[name]} differs from {old[name]} of the run in {self.path}"
            for name in new
            if old[name] != new[name] and name not in FREE_KEYS
        ]

    def with_findings(self, config: RunConfig) -> RunConfig:
        """The config with what the run in the folder has found, where the config leaves it open: the targets, the
        temperature and the weights of the losses."""
        record = self.read_run()
        losses = record.get("loss") or {}
        open_losses = [name for name in OPEN_LOSSES if getattr(config.loss, name) is None]
        found = {name: losses[name] for name in open_losses if losses.get(name) is not None}
        targets = record.get("targets", config.targets) if config.targets == "auto" else config.targets
        return replace(config, targets=targets, loss=replace(config.loss, **found))

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return (
            [json.loads(line) for line in self.metrics.read_text("utf-8").split("\n") if line]
            if self.metrics.exists()
            else []
        )


def best_step(lines: Sequence[Mapping[str, Any]]) -> int | None:
    """The step of the student in best/, by the lines of metrics.jsonl; None where none is marked."""
    return next((line["step"] for line in reversed(lines) if line.get("best")), None)


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
        "versions": versions(),
        "git_commit": commit,
        "data_fingerprint": data_fingerprint,
    }


def versions() -> dict[str, str | None]:
    """Of the packages that results depend on; null of what is not installed."""
    return {name: _version(name) for name in PACKAGES}


def check_free(path: Path) -> Path:
    """Where a folder can be made, or is and holds nothing that it would replace; a link is followed to its end.

    Raises:
        ConfigError: the place is taken, or cannot be written.
    """
    refuse_url(path)
    real = Path(os.path.realpath(path))
    _refuse_links([staging_path(real), backup_path(real)])
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        in_a_circle = real.is_symlink()  # a link without an end
        taken = in_a_circle or (real.exists() and (not real.is_dir() or any(real.iterdir())))
    except OSError as error:
        raise ConfigError(f"`output_dir` {path}: {error.strerror}; choose a folder that can be written") from None
    if taken:
        raise ConfigError(f"`output_dir` {path} is there already: choose a new folder, or remove it")
    return real


def save_model(
    path: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    card: str | None = None,
    state: dict[str, Tensor] | None = None,
) -> None:
    """Save a model with its tokenizer, and a card if there is one, in Hugging Face format.

    `state` is what to save as its weights, where the model itself has only a part of them.
    """

    def fill(folder: Path) -> None:
        model.save_pretrained(folder, state_dict=state)
        tokenizer.save_pretrained(folder)
        for weights in folder.glob("*.safetensors"):  # safetensors 0.8 writes for the owner alone, whatever the umask
            weights.chmod(folder.stat().st_mode & 0o666)
        if card is not None:
            (folder / "README.md").write_text(card, encoding="utf-8")

    write_folder(path, fill)


def refuse_url(path: Path) -> None:
    """`ConfigError` for s3://... and its like, which would be a folder here of that name, password included."""
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(path)):
        raise ConfigError(f"`output_dir` {path} is a URL: choose a folder of this machine")


def _refuse_links(paths: Iterable[Path]) -> None:
    """`ConfigError` for the first that is a link: what is written there would land elsewhere."""
    for path in paths:
        if path.is_symlink():
            raise ConfigError(
                f"`output_dir`: {path} is a link, and what is written there would land elsewhere: "
                "remove the link, or choose another folder"
            )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict) and key != "provenance":
            flat.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            flat[key] = value
    return flat
