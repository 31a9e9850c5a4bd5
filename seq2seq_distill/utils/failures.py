"""What can fail under a command, whatever its input: memory, disk, processes. Each is one line with its remedy."""

import errno
import sys
from collections.abc import Iterator
from pathlib import Path

AGAIN = "and run the same command again; what was written before is whole"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
WORKER_DIED = ("dataloader worker",)
PROCESS_DIED = ("connection closed by peer", "connection reset by peer", "timed out waiting", "nccl", "gloo")


def describe_failure(error: BaseException, folder: Path | None, more_memory: str, batch: str = "") -> str | None:
    """One line about a failure of machine or disk, with its remedy; None if the error is something else.

    Args:
        error: with all that it came from.
        folder: where the command writes, if it does.
        more_memory: the remedy where memory runs out.
        batch: what was in work then, to follow "out of memory".
    """
    chain = list(_chain(error))
    place = "" if folder is None else f" while writing into {folder}"
    for each in chain:
        if isinstance(each, OSError) and each.errno in (*DISK_FULL, *NO_ACCESS):
            where = f" while writing {each.filename}" if each.filename else place
            if each.errno in DISK_FULL:
                return f"the disk is full{where}: free some space {AGAIN}"
            return f"{each.strerror}{where}: make it readable and writable {AGAIN}"
    text = " ".join(" ".join(str(each).split()) for each in chain)
    lower = text.lower()
    if "no space left on device" in lower or "disk quota exceeded" in lower:
        return f"the disk is full{place}: free some space {AGAIN}"
    if any(isinstance(each, MemoryError) for each in chain) or any(words in lower for words in OUT_OF_MEMORY):
        return f"out of memory{batch}{_peak()}: {more_memory}"
    if any(words in lower for words in WORKER_DIED):
        return (
            f"a data loader process died ({text[:120]}): check the machine's memory, or set `batch.workers` 0, {AGAIN}"
        )
    if any(words in lower for words in PROCESS_DIED):
        return f"another process of the run ended ({text[:120]}): fix what its message says {AGAIN}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _peak() -> str:
    torch = sys.modules.get("torch")  # where memory ran out without it, no GPU was in use
    if torch is None or not torch.cuda.is_available():
        return ""
    return f" (peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB on {torch.cuda.get_device_name()})"
