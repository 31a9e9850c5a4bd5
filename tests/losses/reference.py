"""What several tests of the losses compare with."""

from torch import Tensor

from seq2seq_distill.losses.logits import Term, at_least_fp32
from seq2seq_distill.utils.constants import IGNORE_INDEX


def entropy(logits: Tensor, labels: Tensor) -> Term:
    """Entropy of softmax(logits) in nats, summed over positions with a label; no gradient."""
    labelled = labels != IGNORE_INDEX
    log_p = at_least_fp32(logits[labelled].detach()).log_softmax(-1)
    return Term(-(log_p.exp() * log_p).sum(), labelled.sum())
