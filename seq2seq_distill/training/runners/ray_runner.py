"""Deal out shards to workers of a Ray cluster.

A worker is an actor: a process that makes what fills a shard once, then fills one shard after the other. Ray transports
the numbers of shards and nothing else; workers read and write files. A worker that ends is replaced, and what it had is
given to another. Workers for which there is no room wait in Ray's queue, and begin when there is.
"""

import logging
import math
import os
import re
import signal
import socket
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic

import torch

from seq2seq_distill.config.runner import RunnerOptions
from seq2seq_distill.training.runners.work import Shard, Work
from seq2seq_distill.training.runners.worker import Worker
from seq2seq_distill.utils.distributed import num_local_cores
from seq2seq_distill.utils.errors import ConfigError, RunError, Stopped, UserError, one_line
from seq2seq_distill.utils.optional import optional

logger = logging.getLogger(__name__)

DEATHS = 3
"""Workers that may end over one shard; so many times their number may end in a row before they have begun."""
PATIENCE = 60.0
"""Seconds without any worker after which the log says what is awaited."""
STORE_BYTES = 80 * 2**20
"""Size of the object store of a Ray of our own, which we do not use: about the least that Ray accepts."""
DETAIL = re.compile(
    r"Worker exit detail: (.*?)(?: Some common causes| There are some potential|$)|The actor is dead because (.*)"
)
"""What Ray says of the end of a worker."""
SETTINGS = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else Ray prints its account of lost workers, to standard output
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # workers without a GPU are told so here, and Ray need not warn of it
}
PASSED_ON = ("HF_", "TRANSFORMERS_", "TOKENIZERS_", "SEQ2SEQ_DISTILL_", "PYTHONPATH", "PYTHONHASHSEED", "CUBLAS_")
"""How the names of variables begin that workers get from this process; tokens are never among them."""


def fill_by_ray(work: Work[Shard], options: RunnerOptions, done: Callable[[Shard], None]) -> None:
    """Fill all shards of the work, as `fill_shards` does, by workers of Ray.

    Raises:
        UserError: of what fills a shard; or the cluster cannot be used, or does not see the folder.
        RunError: workers end again and again.
        Stopped: by Ctrl-C or SIGTERM; the workers have ended too.
    """
    with _marked(work) as mark, _connected(options) as ray:
        pool = _WorkerPool(ray, work, options, mark, done)
        try:
            pool.run()
        except (KeyboardInterrupt, SystemExit) as stop:  # Ray turns SIGTERM into the latter
            number = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM
            raise Stopped(number, "stopped: the same command continues with the shards that are missing") from None
        finally:
            pool.close()


class _WorkerPool(Generic[Shard]):
    """The workers of one command, and the shards that they have."""

    def __init__(
        self, ray: Any, work: Work[Shard], options: RunnerOptions, mark: Path, done: Callable[[Shard], None]
    ) -> None:
        self._ray, self._work, self._mark, self._done = ray, work, mark, done
        self._size = min(options.workers or _room(ray, options), len(work.shards))
        self._actor = ray.remote(Worker).options(
            num_cpus=options.cpus_per_worker,
            num_gpus=options.gpus_per_worker,
            max_restarts=0,
        )
        self._variables, self._make = worker_variables(options), ray.cloudpickle.dumps(work.make)
        self._waiting = deque(work.shards)
        self._left = len(work.shards)
        self._calls: dict[Any, tuple[Any, Shard | None]] = {}
        """The actor of each call, and the shard that it fills; None of one that makes what fills shards."""
        self._idle: list[Any] = []
        self._deaths: Counter[Shard] = Counter()
        self._failed_starts = 0

    def run(self) -> None:
        """Return when all shards are filled."""
        for _ in range(self._size):
            self._start_worker()
        logger.info("%d shards for %d workers of Ray", self._left, self._size)
        while self._left:
            ready, _ = self._ray.wait(list(self._calls), timeout=PATIENCE)
            for call in ready:
                self._finish(call)
            if not ready and all(shard is None for _, shard in self._calls.values()):
                logger.info("no worker has begun: waiting for models to load, or for room in the cluster")

    def close(self) -> None:
        """End all workers."""
        for actor in [actor for actor, _ in self._calls.values()] + self._idle:
            self._end(actor)

    def _start_worker(self) -> None:
        actor = self._actor.remote()
        call = actor.open.remote(self._variables, self._make, os.getcwd(), self._mark, self._work.option)
        self._calls[call] = actor, None

    def _end(self, actor: Any) -> None:
        with suppress(Exception):  # it has ended already
            self._ray.kill(actor)

    def _finish(self, call: Any) -> None:
        """Take the end of a call, whatever it was."""
        actor, shard = self._calls.pop(call)
        try:
            self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, MemoryError | torch.OutOfMemoryError):
                self._replace(actor, shard, cause)
                return
            if isinstance(cause, UserError | RunError):
                self._idle.append(actor)
                raise cause from None
            raise
        except self._ray.exceptions.RayError as error:
            self._replace(actor, shard, error)
            return
        if shard is None:
            self._failed_starts = 0
        else:
            self._left -= 1
            self._done(shard)
        self._idle.append(actor)
        self._assign()

    def _assign(self) -> None:
        """Give shards to workers that have none."""
        while self._idle and self._waiting:
            actor, shard = self._idle.pop(), self._waiting.popleft()
            self._calls[actor.fill.remote(shard)] = actor, shard

    def _replace(self, actor: Any, shard: Shard | None, error: Exception) -> None:
        """A worker has ended: others do what it had.

        Raises:
            RunError: this has happened too often.
        """
        self._end(actor)  # one that was only out of reach
        reason = _reason(error)
        if shard is None:
            self._failed_starts += 1
            if self._failed_starts >= DEATHS * self._size:
                raise RunError(f"workers of Ray end before they have begun, {self._failed_starts} in a row: {reason}")
            logger.warning("a worker has ended before it had begun, and is replaced: %s", reason)
        else:
            name = self._work.name(shard)
            self._deaths[shard] += 1
            if self._deaths[shard] == DEATHS:
                raise RunError(f"{name}: {DEATHS} workers have ended over this shard, the last one thus: {reason}")
            logger.warning("%s: the worker has ended, another one does this: %s", name, reason)
            self._waiting.appendleft(shard)
            self._assign()
        self._start_worker()


def _reason(error: Exception) -> str:
    """Why a worker ended, in one line; of Ray's account, what it knows and not what it supposes."""
    text = " ".join(str(error).split()) or type(error).__name__
    told = DETAIL.search(text)
    return one_line(RuntimeError(told[1] or told[2] if told else text))


@contextmanager
def _connected(options: RunnerOptions) -> Iterator[Any]:
    """Ray, connected to the cluster that the options name, or to one of our own."""
    for name, value in SETTINGS.items():  # read when ray is imported
        os.environ.setdefault(name, value)
    ray = optional("ray", "`runner` ray")
    if options.ray_address is None:
        # So many workers as were asked for, also where they must share cores.
        cores = max(num_local_cores(), options.cpus_per_worker * (options.workers or 1))
        where = {"address": "local", "num_cpus": cores, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    else:
        where = {"address": options.ray_address}
    try:
        _knock(options.ray_address or "")
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many types
        raise ConfigError(
            f"`ray_address` {options.ray_address or 'local'}: no Ray cluster can be used there: {one_line(error)}: "
            "check the address and its versions of ray and Python, or leave it out for a Ray on this machine"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError or ValueError where nobody listens at HOST:PORT: Ray would try for many minutes."""
    host, colon, port = address.rpartition(":")
    if colon and "/" not in address:
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def _marked(work: Work[Any]) -> Iterator[Path]:
    """A file in the folder, by which workers know it."""
    mark = work.folder / f".runner-{uuid.uuid4().hex}.new"
    try:
        mark.touch()
    except OSError as error:
        raise ConfigError(
            f"{work.option} {work.folder}: {error.strerror}; choose a folder that can be written"
        ) from None
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def _room(ray: Any, options: RunnerOptions) -> int:
    """Number of workers that fit on the machines that the cluster has now.

    Raises:
        ConfigError: there is no room for one.
    """
    wanted = {"CPU": options.cpus_per_worker, "GPU": options.gpus_per_worker}
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(
        math.floor(min(machine.get(kind, 0) / count + 1e-6 for kind, count in wanted.items() if count))
        for machine in machines
    )
    if not room:
        has = ", ".join(f"{m.get('CPU', 0):g} CPUs and {m.get('GPU', 0):g} GPUs" for m in machines[:4])
        raise ConfigError(
            f"`cpus_per_worker` {options.cpus_per_worker}, `gpus_per_worker` {options.gpus_per_worker:g}: no machine "
            f"of the cluster has room for a worker ({has}): lower them, or set `workers` to wait for machines that join"
        )
    return room


def worker_variables(options: RunnerOptions) -> dict[str, str]:
    """Variables of a worker's environment."""
    passed = {
        name: value for name, value in os.environ.items() if name.startswith(PASSED_ON) and not name.endswith("TOKEN")
    }
    hidden = {} if options.gpus_per_worker else {"CUDA_VISIBLE_DEVICES": ""}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(options.cpus_per_worker))
    return {**passed, **SETTINGS, **hidden, **threads}
