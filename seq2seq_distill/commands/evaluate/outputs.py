"""The outputs of every model for the whole split, decoded by one process or by all that torchrun has started."""

import os
from collections.abc import Sequence
from datetime import timedelta

import torch.distributed as dist

from seq2seq_distill.commands.evaluate.systems import Output, System

PATIENCE = timedelta(hours=6)
"""How long a process waits for the others to have decoded their batches."""


def join_processes() -> tuple[int, int]:
    """Rank and number of the processes that torchrun has started, which know of each other from here on."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=PATIENCE)
    return dist.get_rank(), world


def leave_processes() -> None:
    """Each goes on by itself."""
    if dist.is_initialized():
        dist.destroy_process_group()


def decode_all(system: System, texts: Sequence[str], batch_size: int, rank: int = 0, world: int = 1) -> list[Output]:
    """The output of each source text, in order, on every process.

    The batches are those of one process, in length order, dealt out in turn: so the outputs are the same.
    """
    sources = system.encode(texts)
    order = sorted(range(len(sources)), key=lambda row: -len(sources[row]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    own = [row for batch in batches[rank::world] for row in batch]
    found = list(zip(own, system.decode([sources[row] for row in own]), strict=True))
    parts = [found]
    if world > 1:
        parts = [[] for _ in range(world)]
        dist.all_gather_object(parts, found)
    by_row = {row: output for part in parts for row, output in part}
    return [by_row[row] for row in range(len(texts))]
