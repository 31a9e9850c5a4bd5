"""Peak memory of the output head's losses, in addition to inputs and weights, and their deviation from dense losses.

    python -m benchmarks.memory                          # 8,192 target tokens, vocabulary 256,206, width 64
    python -m benchmarks.memory --positions 512 --vocab 8000

The chunked head runs first, so that it determines the peak of the process, including its gradients of hidden states and
weight. Then the dense losses are computed in fp64, piece by piece, and compared. Prints one JSON line: `dense_copy_mib`
is the memory that the logits of one model would take; an error is the norm of the difference divided by the norm of the
exact value.
"""

import argparse
import json
import resource
import sys
import time
from typing import NamedTuple

import torch
from torch import Tensor

from seq2seq_distill.config import ResolvedLossConfig
from seq2seq_distill.losses.fused import head_loss
from seq2seq_distill.losses.logits import cross_entropy, kl_divergence
from seq2seq_distill.models.forward import OutputHead

PIECE = 64
"""Positions of a piece of the dense losses."""


class Inputs(NamedTuple):
    """Hidden states [N, H] and head weights [V, H] of student and teacher, labels [N]."""

    hidden: Tensor
    weight: Tensor
    other_hidden: Tensor
    other_weight: Tensor
    labels: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=8192)
    parser.add_argument("--vocab", type=int, default=256_206)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=ResolvedLossConfig.temperature)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.positions, arguments.vocab, arguments.width, arguments.temperature)))


def measure(positions: int, vocabulary: int, width: int, temperature: float) -> dict[str, object]:
    """The benchmark's JSON line."""
    config = ResolvedLossConfig(temperature=temperature)
    chunked(random_inputs(8, 64, width), config)  # memory that libraries retain from first use is not the head's
    inputs = random_inputs(positions, vocabulary, width)
    before, start = peak_bytes(), time.perf_counter()
    ours = chunked(inputs, config)
    seconds, peak = time.perf_counter() - start, peak_bytes() - before
    errors = {
        f"{name}_error": float(f"{(a.double() - b).norm() / b.norm():.1e}")
        for name, a, b in zip(("loss", "hidden_gradient", "weight_gradient"), ours, dense(inputs, config), strict=True)
    }
    return {
        "benchmark": "memory",
        "positions": positions,
        "vocab": vocabulary,
        "width": width,
        "temperature": temperature,
        "peak_mib": round(peak / 2**20, 1),
        "dense_copy_mib": round(4 * positions * vocabulary / 2**20, 1),
        "seconds": round(seconds, 2),
        **errors,
    }


def random_inputs(positions: int, vocabulary: int, width: int) -> Inputs:
    """Inputs whose logits have about unit variance, filled in place so that nothing larger than them is allocated."""
    generator = torch.Generator().manual_seed(0)

    def draw(rows: int, size: float) -> Tensor:
        return torch.empty(rows, width).normal_(std=size, generator=generator)

    return Inputs(
        draw(positions, 1.0).requires_grad_(),
        draw(vocabulary, width**-0.5).requires_grad_(),
        draw(positions, 1.0),
        draw(vocabulary, width**-0.5),
        torch.randint(vocabulary, (positions,), generator=generator),
    )


def chunked(inputs: Inputs, config: ResolvedLossConfig) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, a mean over positions, and its gradients with respect to hidden states and weight."""
    loss = head_loss(
        OutputHead(inputs.weight, None),
        inputs.hidden,
        inputs.labels,
        {"ce_loss": config.alpha_ce, "mlm_loss": config.alpha_mlm},
        (OutputHead(inputs.other_weight, None), inputs.other_hidden),
        temperature=config.temperature,
        scale=1 / len(inputs.labels),
    ).loss
    of_hidden, of_weight = torch.autograd.grad(loss, (inputs.hidden, inputs.weight))
    return loss.detach(), of_hidden, of_weight


def dense(inputs: Inputs, config: ResolvedLossConfig) -> tuple[Tensor, Tensor, Tensor]:
    """As `chunked`, but from dense logits in fp64, one piece after another."""
    weight, other_weight = inputs.weight.detach().double().requires_grad_(), inputs.other_weight.double()
    total, of_hidden = torch.zeros((), dtype=torch.float64), []
    for start in range(0, len(inputs.labels), PIECE):
        piece = slice(start, start + PIECE)
        labels = inputs.labels[piece]
        hidden = inputs.hidden[piece].detach().double().requires_grad_()
        own, other = hidden @ weight.t(), inputs.other_hidden[piece].double() @ other_weight.t()
        ce, mlm = kl_divergence(own, other, labels, config.temperature).sum, cross_entropy(own, labels).sum
        loss = (config.alpha_ce * ce + config.alpha_mlm * mlm) / len(inputs.labels)
        loss.backward()
        total += loss.detach()
        of_hidden.append(hidden.grad)
    return total, torch.cat(of_hidden), weight.grad  # type: ignore[arg-type,return-value]


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
