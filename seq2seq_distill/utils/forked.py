"""Work that forked processes share."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from seq2seq_distill.utils.errors import RunError

Item = TypeVar("Item")


def map_forked(function: Callable[[Item], None], items: Sequence[Item], processes: int) -> Iterator[Item]:
    """Call `function` for each item in forked processes, and give each item back when it is done.

    Processes are forked, as those of torch's data loaders are: what the function refers to need not be pickled, and a
    user's script needs no guard around its main part. They end with this process, however that ends.

    Raises:
        RunError: a process was killed.
        Exception: what `function` raised; the other processes are ended.
    """
    context = multiprocessing.get_context("fork")
    workers: dict[Any, BaseProcess] = {}
    try:
        for number in range(min(processes, len(items))):
            receiver, sender = context.Pipe(duplex=False)
            arguments = function, items[number::processes], sender, os.getpid()
            worker = context.Process(target=_work, args=arguments, daemon=True)
            worker.start()
            sender.close()  # the receiver sees the end of a worker only if nobody else could write
            workers[receiver] = worker
        while workers:
            ready: Any
            for ready in wait(list(workers)):
                try:
                    message = ready.recv()
                except EOFError:
                    _check_ended(workers.pop(ready))
                    continue
                if isinstance(message, BaseException):
                    raise message
                yield message
    finally:
        for left in workers.values():
            left.kill()
            left.join()


def _check_ended(worker: BaseProcess) -> None:
    worker.join()
    if worker.exitcode:
        raise RunError(
            f"a process that shared the work died ({_cause(worker.exitcode)}): check the machine's memory, and start "
            "the command again: it goes on where it stopped"
        )


def _cause(code: int) -> str:
    return f"exit code {code}" if code > 0 else signal.Signals(-code).name


def _work(function: Callable[[Item], None], items: Sequence[Item], sender: Connection, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches all processes; the parent ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        for item in items:
            function(item)
            sender.send(item)
    except Exception as error:
        sender.send(error)


def _end_with(parent: int) -> None:
    """A parent that is killed cannot end its processes."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
