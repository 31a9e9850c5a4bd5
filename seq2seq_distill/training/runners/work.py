"""Shards that are to be filled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

Shard = TypeVar("Shard")
Fill = Callable[[Shard], None]
"""Writes a shard, whole or not at all. To fill it again changes nothing."""


@dataclass(frozen=True)
class Work(Generic[Shard]):
    """The shards of a folder that are missing, and what fills them."""

    shards: Sequence[Shard]
    fill: Fill[Shard]
    """For this process."""
    make: Callable[[], Fill[Shard]]
    """Makes the same for another process, in it. Can be pickled, and is small: workers read models and texts
    themselves."""
    name: Callable[[Shard], str]
    """What messages call a shard."""
    option: str
    """That names the folder."""
    folder: Path
    """Where the shards are written: an absolute path that all workers see."""
