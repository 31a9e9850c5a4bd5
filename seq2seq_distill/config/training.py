"""Options of optimisation, of Lightning's Trainer, and of validation and test."""

from dataclasses import dataclass
from typing import Any, Literal

from seq2seq_distill.config.bounds import (
    above,
    at_least,
    between,
    for_each,
    fraction,
    inside,
    matching,
    one_of,
    option,
    share_or_count,
    steps_or_unlimited,
)
from seq2seq_distill.config.tasks import RougeTokenizer

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu", "hpu")
PRECISIONS = ("32-true", "32", "bf16-mixed", "bf16", "16-mixed", "16")
"""Lightning's, but for those in which weights are not kept in float32."""
DEVICES = r"auto|-1|[1-9]\d*|\d+(,\d+)+|\d+,"
DURATION = r"(?!0+:00:00:00)\d{1,5}:[0-5]\d:[0-5]\d:[0-5]\d"


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and learning-rate schedule.

    Examples:
        >>> from seq2seq_distill import OptimConfig
        >>> OptimConfig(lr=1e-3, schedule="cosine", warmup_steps=200).name
        'adamw'
    """

    name: Literal["adamw", "adafactor"] = "adamw"
    """Optimiser."""
    lr: float = option(3e-4, above(0))
    """Peak learning rate."""
    schedule: Literal["linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "inverse_sqrt"] = "linear"
    """Learning-rate schedule after warm-up."""
    warmup_steps: int | None = option(None, at_least(0))
    """Number of steps of linear learning-rate warm-up (default: 500, but at most a tenth of the training steps)."""
    encoder_lr: float | None = option(None, above(0))
    """Peak learning rate of encoder and embeddings, together with a head that is tied to them, for a student whose
    decoder needs a higher one (default: --optim.lr)."""
    projection_lr: float | None = option(None, above(0))
    """Peak learning rate of the projections in --matches (default: --optim.lr)."""
    weight_decay: float = option(0.0, at_least(0))
    """Weight decay; normalization weights and biases are never decayed."""
    eps: float = option(1e-8, above(0))
    """Epsilon of AdamW."""
    betas: tuple[float, float] = option((0.9, 0.999), for_each(fraction()))
    """Beta coefficients of AdamW."""
    ema: float | None = option(None, inside(0, 1))
    """Decay of a moving average of the weights, such as 0.999 (default: no average). The average is validated and saved
    in place of the weights; the decay is warmed up over the first steps."""


@dataclass(frozen=True)
class EvalConfig:
    """Validation and test: decoding, metrics, and the choice of the best student.

    Examples:
        >>> from seq2seq_distill import EvalConfig, RunConfig
        >>> RunConfig(task="translation", eval=EvalConfig(beams=2, monitor="chrf")).monitor
        'chrf'
    """

    beams: int | None = option(None, between(1, 1000))
    """Number of beams in decoding (default: from the model's generation config)."""
    max_target_length: int = option(142, at_least(1))
    """Maximum number of tokens to generate. References are never truncated."""
    length_penalty: float | None = option(None, between(-100, 100))  # as an exponent, it must stay a number
    """Length penalty of beam search (default: from the model's generation config)."""
    generate: dict[str, Any] = option({})
    """Other options of transformers' generate, such as {"no_repeat_ngram_size": 3}."""
    batch_size: int = option(32, at_least(1))
    """Number of examples that each process decodes together."""
    n_val: int | None = option(500, at_least(1))
    """Validate on only the first N examples; null uses all."""
    n_test: int | None = option(None, at_least(1))
    """Test on only the first N examples (default: all)."""
    n_speed: int = option(50, at_least(0))
    """Number of test examples on which the latency of student and teacher is measured, one at a time; 0 skips it."""
    monitor: str | None = None
    """Validation value that selects the best student: rouge1, rouge2, rougeL or rougeLsum for summarization (default:
    rouge2), bleu or chrf for translation (default: bleu), or loss."""
    rouge_tokenizer: RougeTokenizer = "default"
    """Tokenizer of ROUGE: default keeps a-z and 0-9 and stems, as published scores do; unicode keeps the letters of
    every script and does not stem."""
    patience: int | None = option(None, at_least(1))
    """Stop training after this many validations without improvement (default: never)."""
    save_top_k: int = option(1, at_least(-1))
    """Number of best checkpoints to keep besides last.ckpt; -1 keeps all."""


@dataclass(frozen=True)
class TrainerConfig:
    """Options of Lightning's Trainer, under its own names.

    Examples:
        >>> from seq2seq_distill import TrainerConfig
        >>> TrainerConfig(max_epochs=0.5, devices=4).max_steps
        -1
    """

    accelerator: str = option("auto", one_of(*ACCELERATORS))
    """Kind of device to train on: auto, cpu, gpu, cuda, mps, tpu or hpu."""
    devices: int | str = option("auto", matching(DEVICES, "choose auto, a number from 1 on, or ids such as 0,2"))
    """Devices per machine: auto, a number, or a list of ids such as 0,2."""
    num_nodes: int = option(1, at_least(1))
    """Number of machines."""
    strategy: str = "auto"
    """Strategy of distributed training: auto, ddp, fsdp2, ...; docs/scaling.md compares them."""
    shard_teacher: bool = False
    """Shard the teacher's weights over the processes instead of keeping a whole copy on each; needs fsdp2."""
    teacher_precision: Literal["32", "bf16", "int8"] = "32"
    """Numerical format of the teacher's weights during training: bf16 takes half the memory of 32, int8 (linear layers
    only) about a quarter."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass instead of storing them, which is slower but needs less
    memory."""
    precision: str | None = option(None, one_of(*PRECISIONS))
    """Numerical precision of training, such as 32-true, bf16-mixed or 16-mixed (default: bf16-mixed on GPUs that
    support it, else 32-true)."""
    max_epochs: float = 3
    """Number of passes over the training data; fractions are allowed."""
    max_steps: int = option(-1, steps_or_unlimited)
    """Number of optimiser steps; when positive, it takes precedence over --trainer.max_epochs."""
    max_time: str | None = option(None, matching(DURATION, "write it as DD:HH:MM:SS, such as 00:08:30:00"))
    """Stop after this much training time, as DD:HH:MM:SS; the learning-rate schedule does not take it into account."""
    val_check_interval: float = option(1.0, above(0), share_or_count)
    """Interval between validations: up to 1.0 a fraction of a data epoch, from 2 on a number of optimiser steps."""
    limit_train_batches: float = option(1.0, above(0), share_or_count)
    """Limit each data epoch to a fraction of its optimiser steps (up to 1.0) or to a number of them (from 2 on)."""
    accumulate_grad_batches: int = option(1, between(1, 10_000))
    """Number of micro-batches into which each process splits its share of an optimiser step; the size of the step,
    which --batch sets, does not change."""
    save_every_n_steps: int | None = option(None, at_least(1))
    """Save a resumable checkpoint every N optimiser steps, besides those at validations (default: never)."""
    save_every_minutes: float | None = option(10.0, above(0))
    """Save a resumable checkpoint at most every N minutes; null disables time-based checkpoints."""
    gradient_clip_val: float | None = option(1.0, above(0))
    """Maximum gradient norm; null disables clipping."""
    log_every_n_steps: int = option(50, at_least(0))
    """Number of optimiser steps between two entries of the training log."""
    deterministic: bool = False
    """Make torch use deterministic algorithms."""
    enable_progress_bar: bool = True
    """Show progress: a bar on a terminal; elsewhere, and with NO_COLOR, a log line every 30 seconds."""
    extra: dict[str, Any] = option({})
    """Other options of Lightning's Trainer, such as {"profiler": "simple"}."""
