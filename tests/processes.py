"""Processes for tests, forked from one that has imported everything: a start takes milliseconds instead of seconds.

Use these wherever a test is about processes and not about how the command or its launcher starts them.
"""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIMIT = 600
"""Seconds for one job; a few are enough on a machine with nothing else to do."""
# What jobs run. Each import here is one that no job has to make.
IMPORTS = (
    "seq2seq_distill.training.run",
    *(f"seq2seq_distill.commands.{name}" for name in ("cache", "evaluate", "label")),
    "tests.system.killed_run",
    "tests.system.two_processes",
    "tests.training.test_distillation_trainer",
)


class Job:
    """One or more processes that run a function, in a process group of their own.

    Args:
        function: called with `arguments` in each process; may return an exit code. Must be importable by name.
        log: what the processes write to stdout and stderr is appended to this file.
        processes: with more than one, each gets the variables that torchrun would set, and one that fails ends all.
        environment: variables besides those of the test.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        log: Path,
        processes: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self._server = Server.running()
        self._group: int = self._server.ask("start", function, arguments, log, processes, variables)

    def alive(self) -> bool:
        return self._group in _groups()

    def wait(self) -> int:
        """The exit code, once no process of the group is left; -N if signal N ended it."""
        code: int = self._server.ask("wait", self._group)
        self.kill()  # what outlives its leader, such as data workers of a process that was killed
        assert code != -signal.SIGALRM, f"still running after {LIMIT} s: {self.output()[-3000:]}"
        return code

    def kill(self) -> None:
        """End all processes of the group by SIGKILL, and return when they are gone."""
        while self.alive():
            with suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)

    def output(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    def succeed(self) -> None:
        """`wait`, and the exit code must be 0."""
        code = self.wait()
        assert code == 0, f"exit code {code}: {self.output()[-3000:]}"


class Server:
    """The process from which jobs are forked. It has one thread and has run nothing but imports."""

    _one: "Server | None" = None

    def __init__(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
        )
        theirs.close()

    @classmethod
    def running(cls) -> "Server":
        """The one of this test process, started when it is first asked for."""
        if cls._one is None:
            cls._one = cls()
        return cls._one

    @classmethod
    def stop(cls) -> None:
        """End the server, if there is one; its processor time counts as that of a child of this process."""
        if cls._one is not None:
            cls._one._connection.close()
            cls._one._process.wait()
            cls._one = None

    def ask(self, *request: Any) -> Any:
        self._connection.send(request)
        return self._connection.recv()


def _groups() -> set[int]:
    """Process groups that have a living process."""
    groups = set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, _, group = file.read_text().rpartition(")")[2].split()[:3]
            if state != "Z":
                groups.add(int(group))
    return groups


def serve(requests: Connection) -> None:
    """Fork jobs, and wait for their ends, until nobody is left who could ask for that."""
    with suppress(EOFError):
        while True:
            kind, *details = requests.recv()
            if kind == "wait":
                requests.send(os.waitstatus_to_exitcode(os.waitpid(details[0], 0)[1]))
            elif (group := os.fork()) == 0:
                requests.close()
                _lead(*details)
            else:
                requests.send(group)


def _lead(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    log: Path,
    processes: int,
    variables: Mapping[str, str],
) -> None:
    """What the first process of a job does: it never returns."""
    os.setsid()
    signal.alarm(LIMIT)
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.environ.clear()
    os.environ.update(variables)
    if processes == 1:
        sys.exit(function(*arguments))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=_rank, args=(function, arguments, n, processes, port)) for n in range(processes)]
    for rank in ranks:
        rank.start()
    while running := [rank for rank in ranks if rank.is_alive()]:
        wait([rank.sentinel for rank in running])
        if failed := [rank.exitcode for rank in ranks if rank.exitcode]:
            for rank in running:
                rank.kill()
            sys.exit(failed[0])
    sys.exit(0)


def _rank(function: Callable[..., Any], arguments: tuple[Any, ...], rank: int, processes: int, port: int) -> None:
    """What one of several processes does: it is as if torchrun had started it."""
    own, all_of_them = str(rank), str(processes)
    os.environ |= {"RANK": own, "LOCAL_RANK": own, "WORLD_SIZE": all_of_them, "LOCAL_WORLD_SIZE": all_of_them}
    os.environ |= {"GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_MAX_RESTARTS": "0"}
    sys.exit(function(*arguments))


if __name__ == "__main__":
    for name in IMPORTS:
        import_module(name)
    serve(Connection(int(sys.argv[1])))
