"""Distil an encoder-decoder from outside transformers: plain torch modules, an adaptor and a custom training loop.

    python examples/adaptor.py --steps 300

Both models learn to reverse a row of digits. The student has one layer in encoder and decoder, the teacher two.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seq2seq_distill import FeatureLossConfig, LossConfig, ModelOutputs, distillation_loss

WIDTH, DIGITS, LENGTH = 32, 10, 6
START = DIGITS


class Plain(nn.Module):
    """An encoder-decoder made of torch's layers."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        options = {"d_model": WIDTH, "nhead": 2, "dim_feedforward": 64, "dropout": 0.0, "batch_first": True}
        self.tokens, self.positions = nn.Embedding(DIGITS + 1, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.encoder = nn.ModuleList(nn.TransformerEncoderLayer(**options) for _ in range(layers))
        self.decoder = nn.ModuleList(nn.TransformerDecoderLayer(**options) for _ in range(layers))
        self.head = nn.Linear(WIDTH, DIGITS)

    def forward(self, source: Tensor, inputs: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return logits [B, T, V] and the outputs of every encoder and decoder layer."""
        places = self.positions(torch.arange(LENGTH))
        causal = nn.Transformer.generate_square_subsequent_mask(LENGTH)
        encoded, decoded = [self.tokens(source) + places], [self.tokens(inputs) + places]
        for layer in self.encoder:
            encoded.append(layer(encoded[-1]))
        for layer in self.decoder:
            decoded.append(layer(decoded[-1], encoded[-1], tgt_mask=causal))
        return self.head(decoded[-1]), encoded[1:], decoded[1:]


def read(outputs: tuple[Tensor, list[Tensor], list[Tensor]]) -> ModelOutputs:
    """The adaptor: maps the model's outputs to the fields that the losses compare."""
    logits, encoded, decoded = outputs
    return ModelOutputs(logits, encoder_hidden=encoded, decoder_hidden=decoded)


def batches(steps: int, seed: int) -> list[dict[str, Tensor]]:
    chance = torch.Generator().manual_seed(seed)
    sources = torch.randint(DIGITS, (steps, 64, LENGTH), generator=chance)
    return [
        {
            "source": source,
            "labels": source.flip(1),
            "inputs": F.pad(source.flip(1), (1, -1), value=START),
            "attention_mask": torch.ones_like(source),
        }
        for source in sources
    ]


def agreement(student: Plain, teacher: Plain) -> float:
    """Fraction of the tokens of new rows on which both models agree."""
    (batch,) = batches(1, seed=2)
    with torch.no_grad():
        choices = [model(batch["source"], batch["inputs"])[0].argmax(-1) for model in (student, teacher)]
    return float((choices[0] == choices[1]).float().mean())


def main(steps: int) -> dict[str, float]:
    torch.manual_seed(0)
    teacher, student = Plain(layers=2), Plain(layers=1)
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
    for batch in batches(steps, seed=0):
        logits, _, _ = teacher(batch["source"], batch["inputs"])
        F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    teacher.eval().requires_grad_(False)

    loss, matches = LossConfig(alpha_hid=0.5), [FeatureLossConfig(layers="last", loss="cosine")]
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    before = agreement(student, teacher)
    for batch in batches(steps, seed=1):
        outputs = [read(model(batch["source"], batch["inputs"])) for model in (student, teacher)]
        report = distillation_loss(outputs[0], outputs[1], batch, loss, matches)
        report.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    terms = {name: round(value.item(), 4) for name, value in report.named().items()}
    return {**terms, "agreement_before": before, "agreement": agreement(student, teacher)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    print(main(**vars(parser.parse_args())))
