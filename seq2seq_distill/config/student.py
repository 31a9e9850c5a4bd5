"""Options of the student."""

from dataclasses import dataclass
from typing import Any, Literal

from seq2seq_distill.config.bounds import above, at_least, fraction, fraction_or_size, increasing_from_zero, option

WIDTHS = ("encoder_ffn_dim", "decoder_ffn_dim", "num_heads", "d_model")
"""Options that make a student narrower than its teacher."""


@dataclass(frozen=True)
class StudentConfig:
    """The student: layers copied from the teacher, an existing model, or a newly initialised model.

    Examples:
        >>> from seq2seq_distill import StudentConfig
        >>> student = StudentConfig(decoder_layers=3, decoder_ffn_dim=0.5)
        >>> student.widths
        {'decoder_ffn_dim': 0.5}
    """

    encoder_layers: int | None = option(None, at_least(1))
    """Number of encoder layers in the student (default: all of the teacher's)."""
    decoder_layers: int | None = option(None, at_least(1))
    """Number of decoder layers in the student (default: a quarter of the teacher's, rounded up)."""
    encoder_layer_ids: list[int] | None = option(None, increasing_from_zero)
    """Teacher encoder layers to copy, counted from 0 (default: selected by --student.choice)."""
    decoder_layer_ids: list[int] | None = option(None, increasing_from_zero)
    """Teacher decoder layers to copy, counted from 0 (default: selected by --student.choice)."""
    choice: Literal["spread", "first"] = "spread"
    """How the copied layers are selected when no layer ids are given: spread evenly over the teacher's stack, or the
    first n."""
    encoder_ffn_dim: float | None = option(None, above(0), fraction_or_size)
    """Inner width of the encoder's feed-forward blocks: a number, or a fraction below 1 of the teacher's width, rounded
    to a multiple of 8 (default: the teacher's); T5 has one width for both stacks."""
    decoder_ffn_dim: float | None = option(None, above(0), fraction_or_size)
    """Inner width of the decoder's feed-forward blocks, in the form of --student.encoder_ffn_dim (default: the
    teacher's)."""
    num_heads: int | None = option(None, at_least(1))
    """Number of attention heads; only for T5 and its relatives (default: the teacher's)."""
    d_model: int | None = option(None, at_least(1))
    """Width of the hidden states, a multiple of the width of an attention head; only for BART and relatives with
    learned positions (default: the teacher's)."""
    calibration_rows: int = option(256, at_least(1))
    """Number of training rows whose activations decide which units a narrower student keeps."""
    repair: bool = True
    """Correct the remaining weights of a narrower student by least squares, so that each block's outputs stay close to
    the teacher's."""
    path: str | None = None
    """Existing model to train as the student, a Hugging Face folder, hub id or built-in teacher such as
    demo:summarization; it must share the teacher's target vocabulary."""
    config: str | None = None
    """Model config of a newly initialised student: a YAML or JSON file, or a Hugging Face folder."""
    vocab_size: int | None = option(None, at_least(260))  # all bytes and the special tokens
    """Train a tokenizer of this size on the training data; needs --student.config."""
    freeze_encoder: bool | None = None
    """Keep the encoder's weights fixed (default: true if the encoder is an unchanged copy of the teacher's)."""
    freeze_embeds: bool | None = None
    """Keep token and position embeddings fixed; T5 has token embeddings only (default: the value of
    --student.freeze_encoder)."""
    dropout: float | None = option(None, fraction())
    """Dropout probability in the student (default: the teacher's)."""
    attention_dropout: float | None = option(None, fraction())
    """Dropout probability of the attention weights (default: the teacher's)."""
    encoder_layerdrop: float | None = option(None, fraction())
    """Probability that LayerDrop skips an encoder layer (default: the teacher's)."""
    decoder_layerdrop: float | None = option(None, fraction())
    """Probability that LayerDrop skips a decoder layer (default: the teacher's)."""
    overrides: dict[str, Any] = option({})
    """Other keys of the student's model config to change, such as {"activation_dropout": 0.1}."""

    @property
    def widths(self) -> dict[str, Any]:
        """The options that make the student narrower than its teacher, with their values."""
        return {name: value for name in WIDTHS if (value := getattr(self, name)) is not None}
