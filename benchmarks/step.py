"""The cost of a step beyond the models themselves: the dense implementation, ours, and the floor, in turn.

    python -m benchmarks.step                        # vocabularies of 50,265 and 250,054
    python -m benchmarks.step --vocab 8000 --rounds 9
    python -m benchmarks.step --divergence jsd       # also against forward KL, as ours_over_forward_kl

A step consists of both models' forward passes and the student's backward pass, without the optimiser. The floor
replaces the losses by the four matrix products of the head (logits of student and teacher, gradients of hidden states
and weight), in the same chunks as ours. The dense implementation computes the logits of the batch, copies those with a
label, and applies `KLDivLoss` and `CrossEntropyLoss`; for divergences other than forward KL, it applies our dense
function. Models are BART from a config with random weights. Prints one JSON line per vocabulary size with medians over
rounds of seconds, and of the ratios within a round.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BartConfig, BartForConditionalGeneration

from benchmarks.timing import interleaved, ratio
from seq2seq_distill.config import ResolvedLossConfig
from seq2seq_distill.losses.chunks import chunk_rows
from seq2seq_distill.losses.divergences import DIVERGENCES, Divergences, divergence
from seq2seq_distill.losses.fused import head_loss
from seq2seq_distill.models import forward
from seq2seq_distill.utils.constants import IGNORE_INDEX

Batch = Mapping[str, Tensor]
VOCABULARIES = (50_265, 250_054)


@dataclass(frozen=True)
class Shape:
    """The dimensions of a step."""

    vocab: int
    batch: int = 8
    source: int = 128
    """Tokens a row."""
    target: int = 64
    """Tokens a row."""
    width: int = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, nargs="+", default=VOCABULARIES)
    parser.add_argument("--batch", type=int, default=Shape.batch)
    parser.add_argument("--source", type=int, default=Shape.source, help="tokens per row")
    parser.add_argument("--target", type=int, default=Shape.target, help="tokens per row")
    parser.add_argument("--width", type=int, default=Shape.width)
    parser.add_argument("--temperature", type=float, default=ResolvedLossConfig.temperature)
    parser.add_argument("--divergence", choices=DIVERGENCES, default=ResolvedLossConfig.divergence)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="number of threads (default: torch's)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for vocabulary in arguments.vocab:
        shape = Shape(vocabulary, arguments.batch, arguments.source, arguments.target, arguments.width)
        loss = ResolvedLossConfig(temperature=arguments.temperature, divergence=arguments.divergence)
        print(json.dumps(compare(shape, loss, arguments.rounds)), flush=True)


def compare(shape: Shape, loss: ResolvedLossConfig, rounds: int) -> dict[str, object]:
    """The benchmark's JSON line; checks that both implementations give the same loss."""
    torch.manual_seed(0)
    teacher = bart(shape, 6).eval().requires_grad_(False)
    student = bart(shape, 2).train()
    batch = random_batch(shape)
    losses = {}
    sides = SIDES if loss.divergence == "forward_kl" else SIDES | {"forward_kl": forward_kl}

    def step(name: str) -> Callable[[], None]:
        def run() -> None:
            student.zero_grad()
            torch.manual_seed(0)  # the same dropout
            result = sides[name](student, teacher, batch, loss)
            result.backward()
            losses[name] = result.item()

        return run

    seconds = interleaved({name: step(name) for name in sides}, rounds)
    return {
        "benchmark": "step",
        **asdict(shape),
        "temperature": loss.temperature,
        "divergence": loss.divergence,
        "threads": torch.get_num_threads(),
        "naive_over_ours": ratio(seconds, "naive", "ours"),
        "ours_over_floor": ratio(seconds, "ours", "floor"),
        **({"ours_over_forward_kl": ratio(seconds, "ours", "forward_kl")} if "forward_kl" in seconds else {}),
        **{f"{name}_seconds": round(median(times), 4) for name, times in seconds.items()},
        "naive_loss": round(losses["naive"], 6),
        "ours_loss": round(losses["ours"], 6),
    }


def bart(shape: Shape, decoder_layers: int, encoder_layers: int = 6) -> BartForConditionalGeneration:
    """BART with random weights."""
    heads = max(1, shape.width // 64)
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=shape.vocab,
            d_model=shape.width,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=4 * shape.width,
            decoder_ffn_dim=4 * shape.width,
        )
    )


def random_batch(shape: Shape) -> Batch:
    """A batch of random tokens without padding."""
    return {
        "input_ids": torch.randint(4, shape.vocab, (shape.batch, shape.source)),
        "attention_mask": torch.ones(shape.batch, shape.source, dtype=torch.int64),
        "labels": torch.randint(4, shape.vocab, (shape.batch, shape.target)),
    }


def naive(student: Any, teacher: Any, batch: Batch, loss: ResolvedLossConfig) -> Tensor:
    """Dense logits of both models, copies of those with a label, and torch's losses."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    decoder_inputs = forward.decoder_inputs(student, batch["labels"])
    own = student(**inputs, decoder_input_ids=decoder_inputs, use_cache=False).logits
    with torch.no_grad():
        other = teacher(**inputs, decoder_input_ids=decoder_inputs, use_cache=False).logits
    mask = (batch["labels"] != IGNORE_INDEX)[:, :, None].expand_as(own)
    vocabulary = own.shape[-1]
    own_chosen = torch.masked_select(own, mask).view(-1, vocabulary)
    other_chosen = torch.masked_select(other, mask).view(-1, vocabulary)
    t = loss.temperature
    if loss.divergence == "forward_kl":
        ce = nn.KLDivLoss(reduction="batchmean")(
            F.log_softmax(own_chosen / t, dim=-1), F.softmax(other_chosen / t, dim=-1)
        ) * (t**2)
    else:
        labels = batch["labels"][batch["labels"] != IGNORE_INDEX]
        term = divergence(own_chosen, other_chosen, labels, str(loss.divergence), t, beta=loss.beta, skew=loss.skew)
        ce = term.sum / term.count
    mlm = nn.CrossEntropyLoss(ignore_index=IGNORE_INDEX)(own.view(-1, vocabulary), batch["labels"].view(-1))
    return loss.alpha_ce * ce + loss.alpha_mlm * mlm


def ours(student: Any, teacher: Any, batch: Batch, loss: ResolvedLossConfig) -> Tensor:
    """The implementation of the distiller."""
    own, other, labels = hidden_states(student, teacher, batch)
    return head_loss(
        forward.output_head(student),
        own,
        labels,
        {"ce_loss": loss.alpha_ce, "mlm_loss": loss.alpha_mlm},
        (forward.output_head(teacher), other),
        divergences=Divergences(loss.divergences, loss.beta, loss.skew),
        temperature=loss.temperature,
        scale=1 / len(labels),
    ).loss


def forward_kl(student: Any, teacher: Any, batch: Batch, loss: ResolvedLossConfig) -> Tensor:
    """Ours with forward KL, as the reference for other divergences."""
    return ours(student, teacher, batch, replace(loss, divergence="forward_kl"))


def floor(student: Any, teacher: Any, batch: Batch, loss: ResolvedLossConfig) -> Tensor:
    """Both models and the matrix products of the head only."""
    own, other, _ = hidden_states(student, teacher, batch)
    inputs: tuple[Tensor, ...] = (
        *(own, forward.output_head(student).weight),
        *(other, forward.output_head(teacher).weight),
    )
    if torch.is_autocast_enabled(own.device.type):
        inputs = tuple(each.to(torch.get_autocast_dtype(own.device.type)) for each in inputs)
    return HeadProducts.apply(*inputs)


def hidden_states(student: Any, teacher: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Final hidden states of both models at the positions with a label, and these labels."""
    labelled = batch["labels"] != IGNORE_INDEX
    decoder_inputs = forward.decoder_inputs(student, batch["labels"])
    own = forward.decode(student, batch, forward.encode(student, batch), decoder_inputs)
    with torch.no_grad():
        other = forward.decode(teacher, batch, forward.encode(teacher, batch), decoder_inputs)
    return own[labelled], other[labelled], batch["labels"][labelled]


class HeadProducts(torch.autograd.Function):
    """The four matrix products, with the student's logits in place of their gradient."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, own_weight: Tensor, other: Tensor, other_weight: Tensor) -> Tensor:
        chunk, _ = chunk_rows(len(own), len(own_weight), own.device.type)
        own_logits, other_logits = (own.new_empty(chunk, len(own_weight)) for _ in range(2))
        of_hidden, of_weight = torch.empty_like(own), torch.empty_like(own_weight)
        for start in range(0, len(own), chunk):
            part = own[start : start + chunk]
            logits = torch.mm(part, own_weight.t(), out=own_logits[: len(part)])
            torch.mm(other[start : start + chunk], other_weight.t(), out=other_logits[: len(part)])
            torch.mm(logits, own_weight, out=of_hidden[start : start + chunk])
            torch.addmm(of_weight, logits.t(), part, beta=float(start > 0), out=of_weight)
        ctx.save_for_backward(of_hidden, of_weight)
        return own.new_zeros(())

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.saved_tensors, None, None


SIDES = {"naive": naive, "ours": ours, "floor": floor}

if __name__ == "__main__":
    main()
