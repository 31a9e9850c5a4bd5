"""Any divergences, likelihoods and cross-entropy of logits in chunks, at one temperature or one for each position.

Plainer than `chunked_kl` and slower: log-probabilities exist, block by block, and whole gradients.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from seq2seq_distill.losses.chunk_likelihood import CHUNK_LOSS, ChunkWalk
from seq2seq_distill.losses.chunks import Chunks, HeadLossOptions
from seq2seq_distill.losses.divergences import DIVERGENCES
from seq2seq_distill.losses.sparse import as_outcomes, outcomes, spread_

LARGEST_BLOCK = 2**25
"""Most logits of a block: a walk makes several tensors of its size."""


class ChunkedDivergences:
    """The losses of the chunks so far, and the gradient of each chunk's logits, which are not divided by T."""

    def __init__(self, chunks: Chunks, settings: HeadLossOptions) -> None:
        self.chunks, self.settings = chunks, settings
        chunks.block = min(chunks.block, max(chunks.least, LARGEST_BLOCK // chunks.vocabulary))
        self.names = tuple(settings.divergences.weights)
        self.sums = {
            name: chunks.empty(chunks.positions).zero_() for name in ("mlm_loss", "teacher_entropy", *self.names)
        }
        targets = settings.chunk_targets
        self.likelihoods = None if targets is None else ChunkWalk(targets, chunks.dtype)
        if self.likelihoods is not None:
            self.sums[CHUNK_LOSS] = self.likelihoods.losses
        self.one = torch.ones(chunks.chunk, dtype=chunks.dtype, device=chunks.device)
        temperature = torch.as_tensor(settings.temperature, dtype=chunks.dtype, device=chunks.device)
        self.temperature = temperature.expand(chunks.positions)

    def gradient(self, start: int, stop: int, learns: bool) -> tuple[Tensor, Tensor]:
        """Fill the sums of a chunk; returns the gradient of the student's logits, and a factor of 1 for each row."""
        logits, slope = self.chunks.logits(start, stop)
        for first, last in self.chunks.blocks(start, stop):
            gradient = self._block([each[first:last] for each in logits], slice(start + first, start + last))
            if learns:
                logits[0][first:last] = gradient
        if learns and slope is not None:
            logits[0].mul_(slope)
        return logits[0], self.one[: stop - start]

    def losses(self) -> dict[str, Tensor]:
        """Sums over positions: the weighted sum of divergences, cross-entropy, entropy of the teacher, divergences; and
        the sum over chunks."""
        sums = {name: column.sum() for name, column in self.sums.items()}
        weights = self.settings.divergences.weights
        return {"ce_loss": torch.stack([weights[name] * sums[name] for name in self.names]).sum(), **sums}

    def _block(self, logits: list[Tensor], rows: slice) -> Tensor:
        """The gradient of a block's logits."""
        gradient = self._of_labels(logits[0], rows)
        if self.settings.teacher is None and self.settings.sparse is None:
            return gradient
        softened = [F.log_softmax(each / self.temperature[rows, None], -1) for each in logits]
        if self.settings.sparse is None:
            if self.settings.with_entropy:
                self.sums["teacher_entropy"][rows] = torch.special.entr(torch.softmax(logits[1], -1)).sum(-1)
            self._add_divergences(gradient, logits, softened, rows)
            return gradient
        sparse = self.settings.sparse.rows(rows.start, rows.stop)
        own = outcomes(softened[0], sparse)
        of_outcomes = torch.zeros_like(own)
        self._add_divergences(of_outcomes, [], [own, as_outcomes(sparse)], rows)
        return gradient.add_(spread_(of_outcomes, softened[0], own, sparse))

    def _add_divergences(self, gradient: Tensor, logits: list[Tensor], softened: list[Tensor], rows: slice) -> None:
        """Add the gradient of their weighted sum for the logits of the student's outcomes."""
        temperature, divergences = self.temperature[rows], self.settings.divergences
        for name, weight in divergences.weights.items():
            row = DIVERGENCES[name]
            losses, slope = divergences.compare(name, *(logits if row.of_logits else softened))
            scale = temperature**row.power
            self.sums[name][rows] = losses * scale
            inner = scale if row.of_logits else scale / temperature
            gradient.addcmul_(slope, (self.settings.ce * weight * inner)[:, None])

    def _of_labels(self, logits: Tensor, rows: slice) -> Tensor:
        """The gradient of the weighted cross-entropy and of the chunks that these positions are of."""
        labels, smoothing, mlm = self.settings.labels[rows, None], self.settings.smoothing, self.settings.mlm
        log_q = F.log_softmax(logits, -1)
        gold = log_q.gather(1, labels)[:, 0]
        self.sums["mlm_loss"][rows] = -gold if smoothing == 0 else -torch.lerp(gold, log_q.mean(-1), smoothing)
        weight = torch.full_like(gold, mlm)  # of -log q, for each position
        if self.likelihoods is not None:
            weight -= self.settings.chunk * self.likelihoods.slopes(gold, rows.start)
        gradient = log_q.exp_().mul_(weight[:, None])
        if smoothing:
            gradient.sub_(mlm * smoothing / self.chunks.vocabulary)
        gradient[torch.arange(len(labels), device=labels.device), labels[:, 0]] -= weight - mlm * smoothing
        return gradient
