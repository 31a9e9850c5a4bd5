"""Start-up time of the command: `distill --help` and a usage error, against importing torch.

    python -m benchmarks.startup

Complete processes, run in turn. Prints one JSON line; times are processor time, which excludes other work on the
machine.
"""

import json
import resource
import subprocess
import sys
from statistics import median

from benchmarks.timing import interleaved, ratio

COMMANDS = {
    "python": ["-c", "pass"],
    "torch": ["-c", "import torch"],
    "help": ["-m", "seq2seq_distill", "--help"],
    "mistake": ["-m", "seq2seq_distill", "--task", "summarization", "--optim.lrr", "1"],
}


def main() -> None:
    seconds = interleaved({name: lambda own=own: run(own) for name, own in COMMANDS.items()}, 5)  # type: ignore[misc]
    line = {
        "benchmark": "startup",
        "help_over_torch": ratio(seconds, "help", "torch"),
        "mistake_over_torch": ratio(seconds, "mistake", "torch"),
        **{f"{name}_seconds": round(median(times), 3) for name, times in seconds.items()},
        "help_cpu_seconds": round(median(cpu_seconds(COMMANDS["help"]) for _ in range(5)), 3),
    }
    print(json.dumps(line))


def run(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], capture_output=True, check=False)


def cpu_seconds(arguments: list[str]) -> float:
    """Processor time of a process, user and system."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    run(arguments)
    return used() - before


if __name__ == "__main__":
    main()
