"""Any divergences and cross-entropy of logits in chunks, at one temperature or one for each position.

Plainer than `chunked_kl` and slower: log-probabilities exist, block by block, and whole gradients.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from seq2seq_distill.losses.chunks import Chunks, Settings
from seq2seq_distill.losses.divergences import DIVERGENCES
from seq2seq_distill.losses.sparse import as_outcomes, outcomes, spread_

LARGEST_BLOCK = 2**25
"""Most logits of a block: a walk makes several tensors of its size."""


class ChunkedDivergences:
    """The losses of the chunks so far, and the gradient of each chunk's logits, which are not divided by T."""

    def __init__(self, chunks: Chunks, settings: Settings) -> None:
        self.chunks, self.settings = chunks, settings
        chunks.block = min(chunks.block, max(1, LARGEST_BLOCK // chunks.vocabulary))
        self.names = tuple(settings.divergences.weights)
        self.sums = {
            name: chunks.empty(chunks.positions).zero_() for name in ("mlm_loss", "teacher_entropy", *self.names)
        }
        self.one = torch.ones(chunks.chunk, dtype=chunks.dtype, device=chunks.device)
        t = settings.temperature
        self.temperature = t[:, None].to(chunks.dtype) if isinstance(t, Tensor) else t

    def gradient(self, start: int, stop: int, learns: bool) -> tuple[Tensor, Tensor]:
        """Fill the sums of a chunk; returns the gradient of the student's logits, and a factor of 1 for each row."""
        logits, slope = self.chunks.logits(start, stop)
        for first, last in self.chunks.blocks(stop - start):
            gradient = self._block([each[first:last] for each in logits], slice(start + first, start + last))
            if learns:
                logits[0][first:last] = gradient
        if learns and slope is not None:
            logits[0].mul_(slope)
        return logits[0], self.one[: stop - start]

    def losses(self) -> dict[str, Tensor]:
        """Sums over positions: the weighted sum of divergences, cross-entropy, entropy of the teacher, divergences."""
        sums = {name: column.sum() for name, column in self.sums.items()}
        weights = self.settings.divergences.weights
        return {"ce_loss": torch.stack([weights[name] * sums[name] for name in self.names]).sum(), **sums}

    def _block(self, logits: list[Tensor], rows: slice) -> Tensor:
        temperature = self.temperature[rows] if isinstance(self.temperature, Tensor) else self.temperature
        gradient = self._labels(logits[0], rows)
        softened = [F.log_softmax(each / temperature, -1) for each in logits]
        sparse = None if self.settings.sparse is None else self.settings.sparse.rows(rows.start, rows.stop)
        if sparse is not None:
            whole = softened[0]
            softened = [outcomes(whole, sparse), as_outcomes(sparse)]
        elif self.settings.with_entropy:
            self.sums["teacher_entropy"][rows] = torch.special.entr(torch.softmax(logits[1], -1)).sum(-1)
        total: Tensor | float = 0.0
        for name, weight in self.settings.divergences.weights.items():
            row = DIVERGENCES[name]
            loss, own = self.settings.divergences.compare(name, *(logits if row.of_logits else softened))
            scale = temperature**row.power
            self.sums[name][rows] = loss * (scale[:, 0] if isinstance(scale, Tensor) else scale)
            slope = scale if row.of_logits else scale / temperature
            total = total + own.mul_(slope * (weight * self.settings.ce))
        assert isinstance(total, Tensor)
        return gradient.add_(total if sparse is None else spread_(total, whole, softened[0], sparse))

    def _labels(self, logits: Tensor, rows: slice) -> Tensor:
        """The gradient of the cross-entropy, weighted."""
        labels, smoothing, weight = self.settings.labels[rows, None], self.settings.smoothing, self.settings.mlm
        log_q = F.log_softmax(logits, -1)
        gold = log_q.gather(1, labels)[:, 0]
        self.sums["mlm_loss"][rows] = -gold if smoothing == 0 else -torch.lerp(gold, log_q.mean(-1), smoothing)
        gradient = log_q.exp_().mul_(weight)
        if smoothing:
            gradient.sub_(weight * smoothing / self.chunks.vocabulary)
        gradient[torch.arange(len(labels), device=labels.device), labels[:, 0]] -= weight * (1 - smoothing)
        return gradient
