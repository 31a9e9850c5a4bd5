"""A run, from its config to its results; what needs Lightning is imported when it is first used."""

from typing import TYPE_CHECKING

from seq2seq_distill.utils.lazy import lazy_names

if TYPE_CHECKING:
    from seq2seq_distill.training.probe import Probe as Probe
    from seq2seq_distill.training.trial import ValidationRows as ValidationRows
    from seq2seq_distill.training.trial import trial_loss as trial_loss
else:  # a type checker that saw it would believe in every name
    __getattr__ = lazy_names(__name__, {"Probe": "probe", "ValidationRows": "trial", "trial_loss": "trial"})
