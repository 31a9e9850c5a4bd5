"""A step on one process and on several with the same global batch, compared with a simple model.

    python -m benchmarks.scaling                             # 2 processes on this machine, gloo
    python -m benchmarks.scaling --write                     # also update the table in docs/scaling.md
    python -m benchmarks.scaling --width 64 --rounds 3       # quick

A step consists of both models' forward passes, the student's backward pass and the communication of the strategy,
without the optimiser. Models are BART from a config, with random weights and no dropout, on one thread per process.
Each round measures in turn: process 0 alone with the whole batch while the others wait; all processes with their
shares; an all-reduce of as many bytes as the gradients have, for the bandwidth; and one of a single number, for the
latency. The model is

    t(n) = t(1) / n + sent bytes / bandwidth + collectives * latency

without overlap of communication and computation. Prints one JSON line per strategy with medians over rounds of seconds
and bytes, and of the ratios within a round.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from transformers import BartConfig, BartForConditionalGeneration

from benchmarks.marked import replace_marked
from seq2seq_distill.losses.fused import head_loss
from seq2seq_distill.models import architectures, forward
from seq2seq_distill.models.sharding import precision_policy, shard
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.utils.constants import IGNORE_INDEX

PAGE = Path("docs/scaling.md")
BUCKET = 25 * 2**20
"""Bytes that DDP sends together, by default."""


class Step(nn.Module):
    """Student and teacher on a batch; gives its part of the loss, a mean over the tokens of the whole step."""

    def __init__(self, student: BartForConditionalGeneration, teacher: Teacher) -> None:
        super().__init__()
        self.student = student
        self._teacher = teacher  # not an nn.Module, so neither DDP nor FSDP2 sees it

    def forward(self, batch: Mapping[str, Tensor], scale: float) -> Tensor:
        inputs = forward.decoder_inputs(self.student, batch["labels"])
        state = forward.encode(self.student, batch)
        hidden = forward.decode(self.student, batch, state, inputs)
        teachers = self._teacher.decode(batch, self._teacher.encode(batch), inputs)
        labelled = batch["labels"] != IGNORE_INDEX
        heads = [forward.output_head(model) for model in (self.student, self._teacher.running)]
        return head_loss(
            heads[0],
            hidden[labelled],
            batch["labels"][labelled],
            {"ce_loss": 1.0},
            (heads[1], teachers[labelled]),
            scale=scale,
        ).loss


@dataclass(frozen=True)
class Traffic:
    """What one process sends in a step."""

    sent_bytes: float
    collectives: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16, help="rows per step, over all processes")
    parser.add_argument("--length", type=int, default=64, help="tokens per source and per target")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--vocab", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true", help=f"write the table to {PAGE}")
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        measure(arguments)
        return
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(arguments.processes)]
    run = subprocess.run(
        [sys.executable, *launcher, "-m", "benchmarks.scaling", *sys.argv[1:]],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    records = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    for record in records:
        print(json.dumps(record))
    if arguments.write:
        write_table(records)


def measure(arguments: argparse.Namespace) -> None:
    """Run the measurement on each process; process 0 prints the result."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    teacher, student = Teacher(bart(arguments, 6)), bart(arguments, 2).train()
    rows = torch.randint(4, arguments.vocab, (arguments.batch, arguments.length))
    whole = {"input_ids": rows, "attention_mask": torch.ones_like(rows), "labels": rows.flip(1)}
    share = {name: value[rank::world] for name, value in whole.items()}
    gradients = torch.zeros(sum(p.numel() for p in student.parameters()))
    for strategy in ("ddp", "fsdp2"):
        alone, together = Step(student, teacher), spread(strategy, Step(copy.deepcopy(student), teacher))
        ways: dict[str, Callable[[], Any]] = {
            "seconds_1": partial(one_step, alone, whole, 1 / rows.numel()) if rank == 0 else float,  # 0.0 elsewhere
            "seconds_n": partial(one_step, together, share, world / rows.numel()),
            "seconds_all_reduce": lambda: dist.all_reduce(gradients),
            "latency": lambda: dist.all_reduce(torch.zeros(1)),
        }
        check_same(ways["seconds_1"](), ways["seconds_n"]())
        rounds = [{name: timed(way) for name, way in ways.items()} for _ in range(arguments.rounds + 1)]
        if rank == 0:
            own = traffic(strategy, student, world)
            record = {"benchmark": "scaling", "strategy": strategy, "processes": world, **vars(arguments)}
            record.pop("write")
            print(json.dumps({**record, **report(own, traffic("ddp", student, world), world, rounds[1:])}), flush=True)
    dist.destroy_process_group()


def bart(arguments: argparse.Namespace, decoder_layers: int) -> BartForConditionalGeneration:
    """BART with 6 encoder layers and random weights."""
    width, heads = arguments.width, max(1, arguments.width // 64)
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=arguments.vocab,
            d_model=width,
            encoder_layers=6,
            decoder_layers=decoder_layers,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=4 * width,
            decoder_ffn_dim=4 * width,
            dropout=0.0,
        )
    )


def spread(strategy: str, step: Step) -> nn.Module:
    """Wrap the step in a strategy."""
    if strategy == "ddp":
        return DistributedDataParallel(step)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    shard(step, step.student, mesh, precision_policy("32-true"), forward=())
    return step


def one_step(step: nn.Module, batch: Mapping[str, Tensor], scale: float) -> float:
    """Forward and backward pass; returns the loss."""
    step.zero_grad()
    loss = step(batch, scale)
    loss.backward()
    return loss.item()


def check_same(alone: float, share: float) -> None:
    """Check that the mean of the shares is the loss of the whole batch, so that both sides do the same work."""
    losses = torch.tensor([alone, share / dist.get_world_size()])
    dist.all_reduce(losses)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-4)


def timed(way: Callable[[], Any]) -> float:
    """Seconds on this process, after a common start."""
    dist.barrier()
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def traffic(strategy: str, student: BartForConditionalGeneration, world: int) -> Traffic:
    """DDP reduces all gradients; FSDP2 gathers every unit forward, layers again backward, and scatters gradients.

    A ring sends (n - 1) / n of the bytes for a gather or scatter, and twice that for an all-reduce.
    """
    layers = [*architectures.encoder_layers(student), *architectures.decoder_layers(student)]
    total = sum(p.numel() * p.element_size() for p in student.parameters())
    inside = sum(p.numel() * p.element_size() for layer in layers for p in layer.parameters())
    part = (world - 1) / world
    if strategy == "ddp":
        return Traffic(2 * part * total, -(-total // BUCKET))
    return Traffic(part * (total + inside + total), 3 * len(layers) + 2)


def report(own: Traffic, all_reduce: Traffic, world: int, rounds: list[dict[str, float]]) -> dict[str, float]:
    """Medians, with the predicted and the measured time."""
    latency = median(each["latency"] for each in rounds)
    bandwidth = all_reduce.sent_bytes / max(median(each["seconds_all_reduce"] for each in rounds) - latency, 1e-9)
    exchange = own.sent_bytes / bandwidth + own.collectives * latency
    ratios = {
        "speedup": [each["seconds_1"] / each["seconds_n"] for each in rounds],
        "measured_over_model": [each["seconds_n"] / (each["seconds_1"] / world + exchange) for each in rounds],
    }
    seconds = {name: median(each[name] for each in rounds) for name in ("seconds_1", "seconds_n")}
    model = seconds["seconds_1"] / world + exchange
    return {
        **asdict(own),
        "bandwidth": round(bandwidth),
        "latency": round(latency, 6),
        **{name: round(value, 4) for name, value in seconds.items()},
        "seconds_model": round(model, 4),
        "seconds_exchange": round(exchange, 4),
        **{name: round(median(values), 3) for name, values in ratios.items()},
    }


def write_table(records: list[dict[str, Any]]) -> None:
    """Write the table between its marks in the page."""
    lines = [
        "| strategy | processes | sent, MB | t(1), s | exchange, s | t(n) by the model, s | t(n) measured, s | "
        "measured / model | speed-up |",
        "|---|" + "---:|" * 8,
    ]
    lines += [
        f"| {r['strategy']} | {r['processes']} | {r['sent_bytes'] / 1e6:.1f} | {r['seconds_1']:.3f} | "
        f"{r['seconds_exchange']:.3f} | {r['seconds_model']:.3f} | {r['seconds_n']:.3f} | "
        f"{r['measured_over_model']:.2f} | {r['speedup']:.2f} |"
        for r in records
    ]
    first = records[0]
    lines += [
        "",
        f"BART of width {first['width']} and {first['vocab']:,} tokens, {first['batch']} rows of {first['length']} "
        f"tokens a step, one thread a process; {first['bandwidth'] / 1e6:.0f} MB/s, "
        f"latency {1e3 * first['latency']:.2f} ms; medians of {first['rounds']} rounds.",
    ]
    PAGE.write_text(replace_marked(PAGE.read_text("utf-8"), "scaling", "\n".join(lines)), "utf-8")


if __name__ == "__main__":
    main()
