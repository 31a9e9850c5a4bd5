"""The outputs of every model for the whole split, decoded by one process or by all that torchrun has started."""

from collections.abc import Sequence

import torch.distributed as dist

from seq2seq_distill.commands.evaluate.systems import Output, System


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
