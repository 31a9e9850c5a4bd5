"""What decoding costs: latency, throughput, and the memory of a process of its own."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch

from seq2seq_distill.commands.evaluate.candidates import OpenModel, open_model
from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.metrics.cost import Times, summarize_times, time_in_turns
from seq2seq_distill.utils.distributed import device_of
from seq2seq_distill.utils.errors import UserError

logger = logging.getLogger(__name__)

ROUNDS = 3
"""How often the throughput is measured; the median counts."""
BATCHES = 4
"""Of a throughput measurement, at least."""


@dataclass(frozen=True)
class Speed:
    """How fast a model decodes."""

    latency_ms: float
    """Median time of an example by itself, in milliseconds."""
    p95_ms: float
    """Time that 95% of the examples stay below, in milliseconds."""
    ms_per_token: float
    """Time of all examples, each by itself, by the tokens generated, in milliseconds."""
    examples_per_second: float
    """In batches."""
    speedup: float
    """How many times as fast as the first model it generates a token, examples one at a time: `paired_speedup`."""


def measure_speed(models: Mapping[str, OpenModel], texts: Sequence[str], config: EvaluateConfig) -> dict[str, Speed]:
    """Time the models in turns: on the first `--n_speed` source texts one at a time, then on some batches.

    Each has decoded before it is timed. The first one is what `speedup` compares with.
    """
    rows = max(config.n_speed, BATCHES * config.batch_size)
    sources = {name: model.decoder.encode(texts[:rows]) for name, model in models.items()}
    singles = {name: [[source] for source in own[: config.n_speed]] for name, own in sources.items()}
    batches = {name: [in_length_order(own)] * ROUNDS for name, own in sources.items()}
    alone = time_in_turns(_timed(models, singles), min(map(len, singles.values())))
    together = time_in_turns(_timed(models, batches), ROUNDS, warmup=1)
    figures = {name: summarize_times(alone[name], model.beams) for name, model in models.items()}
    first = next(iter(alone.values()))
    return {
        name: Speed(
            latency_ms=own.latency_ms,
            p95_ms=own.p95_ms,
            ms_per_token=own.ms_per_token,
            examples_per_second=len(batches[name][0]) / median(together[name].seconds),
            speedup=paired_speedup(first, alone[name]),
        )
        for name, own in figures.items()
    }


def paired_speedup(baseline: Times, system: Times) -> float:
    """How many times as fast `system` generates a token as `baseline`: the median over the examples.

    Both decoded an example one right after the other, so what else the machine did then is in both times; and a
    moment's standstill of it does not move a median. One row per input.
    """
    per_token = [
        [second / max(1, length) for second, length in zip(times.seconds, times.lengths, strict=True)]
        for times in (baseline, system)
    ]
    return median(ours / theirs for ours, theirs in zip(*per_token, strict=True))


def in_length_order(sources: Sequence[list[int]]) -> list[list[int]]:
    """The longest first."""
    return sorted(sources, key=len, reverse=True)


def _timed(
    models: Mapping[str, OpenModel], inputs: Mapping[str, Sequence[list[list[int]]]]
) -> dict[str, Callable[[int], list[int]]]:
    def decode(name: str, index: int) -> list[int]:
        hypotheses = models[name].decoder.decode(inputs[name][index], with_scores=False)
        return [best.num_tokens for best, *_ in hypotheses]

    return {name: partial(decode, name) for name in models}


def peak_memory(config: EvaluateConfig, model: str, texts: Sequence[str]) -> int | None:
    """Bytes that loading a model and decoding these texts in batches add to a process at their peak.

    On a GPU it is what torch has held there. None where it cannot be measured: elsewhere than on Linux, for CTranslate2
    on a GPU, or if the process dies.
    """
    job = json.dumps({"config": asdict(config), "model": model, "texts": list(texts)})
    command = [sys.executable, "-m", "seq2seq_distill.commands.evaluate.speed"]
    done = subprocess.run(command, input=job, capture_output=True, text=True, check=False)
    if done.returncode:
        logger.warning("the memory of %s was not measured: its process ended with %d", model, done.returncode)
        return None
    found: int | None = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure_memory(config: EvaluateConfig, model: str, texts: Sequence[str]) -> int | None:
    before = _memory("VmRSS")
    opened = open_model(config, model)
    assert opened is not None
    opened.decoder.decode(in_length_order(opened.decoder.encode(texts)), with_scores=False)
    if device_of(config.device).type == "cuda":
        return torch.cuda.max_memory_allocated() or None
    peak = _memory("VmHWM")
    return None if peak is None or before is None else peak - before


def _memory(name: str) -> int | None:
    """Bytes of this process. Not ru_maxrss, in which a child begins with its parent's."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


if __name__ == "__main__":
    given = json.load(sys.stdin)
    try:
        print(json.dumps(_measure_memory(EvaluateConfig(**given["config"]), given["model"], given["texts"])))
    except UserError as error:
        sys.exit(str(error))
