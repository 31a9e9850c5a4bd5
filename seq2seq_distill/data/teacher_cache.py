"""The teacher's output distribution at each target token, on disk: computed once, read in every epoch.

    DIR/cache.json                          what it holds, and of what: a cache of anything else is refused
    DIR/train/00000000.safetensors ...      the rows from this one on, `SHARD_ROWS` of them; so does val/

A shard is written whole or not at all, and depends on its rows alone: filling goes on where it was interrupted, and
several processes fill one cache side by side. Of each token there are k ids and, with `8bit`, k codes: for all tokens
but the likeliest, and for the mass of the rest, the logarithm of the ratio to the likeliest one's probability. Decoded,
they are scaled to add up to one, so the k + 1 numbers need k bytes, and all are equally exact.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seq2seq_distill.data.length_batches import Rows, lengths
from seq2seq_distill.utils.errors import ConfigError
from seq2seq_distill.utils.files import replace_atomically, write_json

FORMAT = 1
SHARD_ROWS = 2048
FIELDS = ("teacher_ids", "teacher_values", "teacher_negentropy")
"""Of a batch and of a shard: ids [N, k, bytes of an id]; codes [N, k] or probabilities with the rest [N, k + 1]; and,
where tokens were drawn, the sum of t log t [N]."""
FLAGS = {
    "teacher": "`teacher`",
    "temperature": "`loss.temperature`",
    "top_k": "`cache.top_k`",
    "draws": "`cache.draws`",
    "precision": "`cache.precision`",
    "train": "`data`, `encode` or `teacher_source`, the training split's fingerprint",
    "val": "`data`, `encode`, `teacher_source` or `eval`, the validation split's fingerprint",
}
TOKEN_STEPS, REST_STEPS, REST_TOP = 17, 10, 13
"""Codes per nat of a token's ratio and of the rest's, and the largest logarithm of the latter."""
ZERO = 255
"""Code of no probability at all."""


@dataclass(frozen=True)
class Contents:
    """What a cache stores for each token."""

    vocabulary: int
    temperature: float
    top_k: int
    draws: int | None
    precision: str


class TeacherCache:
    """A folder of cached teacher outputs.

    Args:
        folder: made if it is not there.
        contents: what is to be stored.
        encoded: the encoded training and validation split.
        teacher: fingerprint of the teacher; None if there is none, which takes the folder's word for it.

    Raises:
        ConfigError: the folder holds the outputs of something else, or cannot be written.
    """

    def __init__(
        self, folder: Path, contents: Contents, encoded: Mapping[str, datasets.Dataset], teacher: str | None
    ) -> None:
        self.folder = folder
        self.contents = contents
        self._lengths = {split: lengths(dataset, "labels") for split, dataset in encoded.items()}
        splits = {split: encoded_fingerprint(dataset) for split, dataset in encoded.items()}
        wanted = {"format": FORMAT, "teacher": teacher, **vars(contents), **splits}
        manifest = self._manifest()
        if manifest is None and teacher is None:
            raise ConfigError(f"`teacher_cache` {folder} is empty: fill it with `distill cache`, or set `teacher`")
        if manifest is None:
            self._write_manifest(wanted)
            return
        for name, value in wanted.items():
            if manifest.get(name) != value and not (name == "teacher" and value is None):
                raise ConfigError(
                    f"`teacher_cache` {folder} was made with {FLAGS.get(name, name)} {manifest.get(name)}, "
                    f"but this run has {value}: choose another folder, or set the same value"
                )

    def missing(self) -> list[tuple[str, int]]:
        """Split and first row of each shard that is missing or incomplete."""
        return [
            (split, first)
            for split, first in self.shards
            if _tokens_in(self._path(split, first)) != self._lengths[split][self.rows_of(split, first)].sum()
        ]

    def rows_of(self, split: str, first: int) -> range:
        """The rows of a shard."""
        return range(first, min(first + SHARD_ROWS, len(self._lengths[split])))

    @property
    def shards(self) -> list[tuple[str, int]]:
        """Split and first row of each shard, whether it exists or not."""
        return [(split, first) for split in self._lengths for first in self._firsts(split)]

    @property
    def bytes_per_token(self) -> float:
        """Bytes on disk per target token, over the existing shards."""
        paths = list(self.folder.glob("*/*.safetensors"))
        return sum(path.stat().st_size for path in paths) / max(1, sum(map(_tokens_in, paths)))

    def write(self, split: str, first: int, rows: Sequence[Mapping[str, Tensor]]) -> None:
        """Write a shard: the fields of its rows, in order."""
        fields = {name: torch.cat([row[name] for row in rows]).contiguous() for name in rows[0]}
        path = self._path(split, first)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_atomically(path, concurrent=True) as temporary:
                save_file(fields, temporary)
                temporary.chmod(path.parent.stat().st_mode & 0o666)  # safetensors 0.8 writes for the owner alone
        except (OSError, SafetensorError) as error:
            raise ConfigError(
                f"`teacher_cache` {self.folder} cannot be written ({error}): choose a writable folder"
            ) from None

    def split(self, name: str) -> "CachedSplit":
        """The cached outputs of a split, to be read by row."""
        return CachedSplit({first: self._path(name, first) for first in self._firsts(name)}, self._lengths[name])

    def _firsts(self, split: str) -> range:
        return range(0, len(self._lengths[split]), SHARD_ROWS)

    def _path(self, split: str, first: int) -> Path:
        return self.folder / split / f"{first:08d}.safetensors"

    def _manifest(self) -> dict[str, Any] | None:
        path = self.folder / "cache.json"
        try:
            manifest = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"`teacher_cache` {self.folder}: {path} cannot be read ({error}): choose another folder"
            ) from None
        return manifest if isinstance(manifest, dict) else {}

    def _write_manifest(self, record: Mapping[str, Any]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            expected = ("cache.json", *self._lengths)  # another process may have begun just now
            if any(path.name not in expected and path.suffix != ".new" for path in self.folder.iterdir()):
                raise ConfigError(f"`teacher_cache` {self.folder} contains other files: choose another folder")
            write_json(self.folder / "cache.json", record, concurrent=True)
        except OSError as error:
            raise ConfigError(
                f"`teacher_cache` {self.folder} cannot be written ({error.strerror}): choose a writable folder"
            ) from None


class CachedSplit:
    """Cached outputs by row. Shards are memory-mapped, each when it is first read.

    Args:
        paths: of the shards, by their first row.
        lengths: target tokens of each row.
    """

    def __init__(self, paths: Mapping[int, Path], lengths: Rows) -> None:
        self._paths = paths
        self._ends = np.cumsum(lengths)
        self._lengths = lengths
        self._open: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": {}}  # a worker process maps the shards itself

    def read(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """The fields of these rows' tokens, concatenated; without rows, fields of length 0."""
        parts = [self._row(row) for row in rows or [0]]
        return {name: torch.cat([part[name] for part in parts])[: None if rows else 0] for name in parts[0]}

    def _row(self, row: int) -> dict[str, Tensor]:
        first = row - row % SHARD_ROWS
        if first not in self._open:
            self._open[first] = safe_open(self._paths[first], framework="pt").__enter__()
        shard, before = self._open[first], self._ends[first] - self._lengths[first]
        stop = int(self._ends[row] - before)
        start = stop - int(self._lengths[row])
        return {name: shard.get_slice(name)[start:stop] for name in FIELDS if name in shard.keys()}  # noqa: SIM118


def pack(ids: Tensor, probabilities: Tensor, rest: Tensor, negentropy: Tensor, contents: Contents) -> dict[str, Tensor]:
    """The fields of N positions, from the parts of a `SparseTeacher`; of top tokens, the likeliest comes first."""
    width = 1 + (contents.vocabulary > 2**8) + (contents.vocabulary > 2**16)
    shifts = torch.arange(0, 8 * width, 8, device=ids.device)
    fields = {"teacher_ids": ((ids[..., None] >> shifts) & 0xFF).to(torch.uint8)}
    if contents.draws is not None:
        counts = (probabilities * contents.draws).round().to(torch.uint8)
        return {**fields, "teacher_values": counts, "teacher_negentropy": negentropy.float()}
    if contents.precision == "float32":
        return {**fields, "teacher_values": torch.cat([probabilities, rest[:, None]], -1).float()}
    first = probabilities[:, :1].log()
    tokens = TOKEN_STEPS * (first - probabilities[:, 1:].log())
    rest_codes = REST_STEPS * (REST_TOP - (rest[:, None].log() - first))
    codes = torch.cat([tokens, rest_codes], -1).round().clamp(0, ZERO - 1)
    nothing = torch.cat([probabilities[:, 1:] == 0, rest[:, None] == 0], -1)
    return {**fields, "teacher_values": codes.masked_fill(nothing, ZERO).to(torch.uint8)}


def unpack(fields: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The parts of a `SparseTeacher` from a batch's fields."""
    packed, values = fields["teacher_ids"].long(), fields["teacher_values"]
    ids = (packed << torch.arange(0, 8 * packed.shape[-1], 8, device=packed.device)).sum(-1)
    if "teacher_negentropy" in fields:
        shares = values.float() / values.sum(-1, keepdim=True).clamp(min=1)
        return ids, shares, torch.zeros_like(shares[:, 0]), fields["teacher_negentropy"]
    if values.dtype == torch.uint8:
        codes = values.float()
        tokens = (codes[:, :-1] / -TOKEN_STEPS).exp()
        rest_ratio = (REST_TOP - codes[:, -1:] / REST_STEPS).exp()
        masses = torch.cat([torch.ones_like(rest_ratio), torch.cat([tokens, rest_ratio], -1) * (values != ZERO)], -1)
        masses = masses / masses.sum(-1, keepdim=True)
    else:
        masses = values
    probabilities, rest = masses[:, :-1], masses[:, -1]
    return ids, probabilities, rest, torch.xlogy(masses, masses).sum(-1)


def encoded_fingerprint(encoded: datasets.Dataset) -> str:
    """SHA-256 (hex) of all token ids of a split, in order: of data, tokenizer and encode options at once."""
    digest = hashlib.sha256()
    for batch in encoded.with_format("arrow").iter(batch_size=1000):
        for name in ("input_ids", "labels"):
            column = batch[name].combine_chunks()
            lengths, ids = column.value_lengths(), column.flatten()
            for part in (lengths, ids):
                digest.update(part.to_numpy(zero_copy_only=False).astype("<i4").tobytes())
    return digest.hexdigest()


def _tokens_in(path: Path) -> int:
    """Number of target tokens in a shard; 0 if it is missing or incomplete."""
    try:
        with safe_open(path, framework="pt") as shard:  # checks the file's length against its header
            return min(shard.get_slice(name).get_shape()[0] for name in FIELDS[:2])
    except (OSError, SafetensorError):
        return 0
