"""Start-up time: `distill --help` and a usage error against importing torch, and what `evaluate`, `label` and `export`
import against importing torch, transformers and datasets.

    python -m benchmarks.startup

Complete processes, run in turn. Prints one JSON line: ratios are medians over the rounds; `help_cpu_seconds` is
processor time, which excludes other work on the machine; `lightning` lists the commands that import Lightning,
torchmetrics or TensorBoard before they load a model, and should be empty.
"""

import json
import resource
import subprocess
import sys
from functools import partial
from statistics import median

from benchmarks.timing import interleaved, ratio
from seq2seq_distill.cli.main import COMMANDS

ROUNDS = 5
MEASURED = ("evaluate", "label", "export")
"""Commands whose imports are timed."""
SIDES = {
    "python": ["-c", "pass"],
    "torch": ["-c", "import torch"],
    "help": ["-m", "seq2seq_distill", "--help"],
    "mistake": ["-m", "seq2seq_distill", "--task", "summarization", "--optim.lrr", "1"],
    "libraries": ["-c", "import torch, transformers, datasets"],
    **{name: ["-c", f"import {COMMANDS[name].module}"] for name in MEASURED},
}


def main() -> None:
    seconds = interleaved({name: partial(run, arguments) for name, arguments in SIDES.items()}, ROUNDS)
    line = {
        "benchmark": "startup",
        "help_over_torch": ratio(seconds, "help", "torch"),
        "mistake_over_torch": ratio(seconds, "mistake", "torch"),
        **{f"{name}_over_libraries": ratio(seconds, name, "libraries") for name in MEASURED},
        **{f"{name}_seconds": round(median(times), 3) for name, times in seconds.items()},
        "help_cpu_seconds": round(median(cpu_seconds(SIDES["help"]) for _ in range(ROUNDS)), 3),
        "lightning": [name for name in MEASURED if imports_lightning(COMMANDS[name].module)],
    }
    print(json.dumps(line))


def imports_lightning(module: str) -> bool:
    """Whether importing this module imports Lightning, torchmetrics or TensorBoard."""
    names = "{'pytorch_lightning', 'lightning_fabric', 'torchmetrics', 'tensorboard'}"
    code = f"import sys, {module}; sys.exit(bool({names} & sys.modules.keys()))"
    return bool(subprocess.run([sys.executable, "-c", code], check=False).returncode)


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
