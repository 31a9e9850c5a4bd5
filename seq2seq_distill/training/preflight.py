"""Before the first step: do the tokens, weights and losses of student and teacher fit each other and the data?

A fault of this kind ends no run by itself: it trains to the end, towards the wrong thing.
"""

import copy
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn
from transformers import PreTrainedModel

from seq2seq_distill.config import RunConfig
from seq2seq_distill.data.teacher_inputs import NAMES
from seq2seq_distill.losses.logits import cross_entropy
from seq2seq_distill.models import architectures, forward
from seq2seq_distill.training.components import RunComponents, TaskComponents, of_task
from seq2seq_distill.training.token_checks import Finding, check_special_tokens, token_differences
from seq2seq_distill.utils.errors import ModelError

logger = logging.getLogger(__name__)

READ = 100
"""Training rows whose tokens are looked at."""
PASSED = 2
"""Training rows that go through the models, one by one, so that nothing is padded."""
LENGTHS = {"labels": 24, "input_ids": 64}
"""To how many tokens those are cut, all other fields as the source: what is wrong shows on few."""
TOLERANCE = 1e-3
"""Difference of logits, absolute or relative, that is no fault."""

Batch = Mapping[str, Tensor]


def preflight(parts: RunComponents, config: RunConfig) -> None:
    """`check_pair` of the run's student with the teacher of each task, on the data of the task."""
    cut = not (config.student.path or config.student.config)
    for task in parts.tasks:
        with of_task(task.name), task.generating_as_for_task(parts.student):
            check_pair(parts.student, task, cut=cut and task.teacher is parts.teacher)


def check_pair(student: PreTrainedModel, task: TaskComponents, *, cut: bool) -> None:
    """Check student and teacher against each other and the training data; on the CPU, in seconds.

    Of each model: all tokens have embeddings; training and generation start the decoder with the same token; the
    targets begin with the forced first token, if there is one, and end where decoding stops; the pad token is the
    tokenizer's; its forward pass in our three parts gives the logits of its own forward pass with labels.

    Of the two: same decoder inputs and vocabulary (for `kd`), same ends and forced first token, same ties between
    embeddings and head. A student that was cut from the teacher has copies of its layers and, with all of the
    teacher's layers, the teacher's logits.

    What may be meant so is logged as a warning, and so is a teacher that predicts no better than guessing. What a
    student shares with its teacher is told once, of the teacher. No weight is copied.

    Args:
        student: the run's, before training, in the memory of the CPU.
        task: the teacher, and how both read the texts.
        cut: whether the student was cut from this teacher.

    Raises:
        ModelError: a line for each thing that is wrong, which names the model, what differs and the remedy.
    """
    config, teacher = task.config, task.teacher.model if task.teacher else None
    names = (f"`teacher` {config.teacher}", _student_name(config))
    rows = task.student_view.data.encoded["train"][:READ]["labels"]
    _raise_or_warn(
        names,
        None if teacher is None else list(check_special_tokens(teacher, rows, task.teacher_view)),
        list(check_special_tokens(student, rows, task.student_view)),
        [] if teacher is None else list(token_differences(student, teacher, rows, task.student_view.tokenizer, config)),
    )
    batches, read = (
        [_cut(data.collated("train", [row])) for row in range(min(PASSED, len(rows)))]
        for data in (task.student_view.data, task.teacher_view.data)
    )
    with torch.no_grad(), attention_as_before([student] if teacher is None else [student, teacher]):
        student_logits = _logits(student, batches)
        teacher_logits = _logits(teacher, read) if teacher else []
        _raise_or_warn(
            names,
            None if teacher is None else list(_passes(teacher, read, teacher_logits)),
            list(_passes(student, batches, student_logits)),
            [] if teacher is None else list(_weight_differences(student, teacher, read, teacher_logits, config, cut)),
        )
    _log_info(
        "pre-flight: the student's loss on %d training examples is %.3f", len(batches), _loss(student_logits, batches)
    )
    if teacher is not None:
        _log_info("pre-flight: the teacher's is %.3f", _loss(teacher_logits, batches))
        _compare_with_guessing(names[0], _loss(teacher_logits, batches), teacher_logits[0].shape[-1])


@contextmanager
def attention_as_before(models: Sequence[PreTrainedModel]) -> Iterator[None]:
    """BigBird leaves sparse attention for good at a short source, and draws random numbers: undo both."""
    encoders: list[Any] = [model.get_encoder() for model in models]
    kinds = [getattr(encoder, "attention_type", None) for encoder in encoders]
    with torch.random.fork_rng(devices=[]):
        yield
        for encoder, kind in zip(encoders, kinds, strict=True):
            if kind is not None:
                encoder.set_attention_type(kind)


def _raise_or_warn(
    names: tuple[str, str], of_teacher: list[Finding] | None, of_student: list[Finding], between: list[Finding]
) -> None:
    """Log what may be meant so and raise the rest; what the student has of its teacher is told once."""
    wrong: list[str] = []
    new = [finding for finding in of_student if finding not in (of_teacher or ())]
    for name, findings in zip(names, (of_teacher or [], [*new, *between]), strict=True):
        unlike = of_teacher is not None and findings is not of_teacher
        for finding in findings:
            if finding.severity == "wrong" or (finding.severity == "unlike" and unlike):
                wrong.append(f"{name}: {finding.line}")
            else:
                _warn(f"{name}: {finding.line}")
    if wrong:
        raise ModelError("\n".join(wrong))


@rank_zero_only
def _warn(line: str) -> None:
    logger.warning("%s", line)


@rank_zero_only
def _log_info(text: str, *values: float) -> None:
    logger.info(text, *values)


# ------------------------------------------------------------------------------------------------------- weights


def _passes(model: PreTrainedModel, batches: Sequence[Batch], trained_logits: Sequence[Tensor]) -> Iterator[Finding]:
    """Is our forward pass, which gave the logits `ours`, the model's own?"""
    logits, loss = [_own_logits(model, batch) for batch in batches], _loss(trained_logits, batches)
    if not math.isfinite(loss):
        yield Finding(f"its loss on a training example is {loss}: the weights are damaged or overflow")
    elif not _equal(logits, trained_logits):
        yield Finding(
            f"its loss on a training example is {_loss(logits, batches):.4f} by its own forward pass and {loss:.4f} "
            f"in training: this version of transformers computes {model.config.model_type} differently: install "
            "one that pyproject.toml allows"
        )


def _weight_differences(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batches: Sequence[Batch],
    teacher_logits: Sequence[Tensor],
    config: RunConfig,
    cut: bool,
) -> Iterator[Finding]:
    """Where a student's ties and, if it was cut from the teacher, its weights are not the teacher's.

    `theirs` are the teacher's logits on the batches, which have its sources.
    """
    if student.config.model_type != teacher.config.model_type:
        return
    student_ties, teacher_ties = _ties(student), _ties(teacher)
    for pair, tied in student_ties.items():
        if tied != teacher_ties[pair]:
            words = ("are one matrix", "are two")
            told = f"its {pair} {words[not tied]}, the teacher's {words[tied]}"
            remedy = "recreate it with create_student" if cut else "they are trained as they are"
            yield Finding(f"{told}: {remedy}", "wrong" if cut else "odd")
    if not cut or config.student.widths:  # a narrower student has no copies
        return
    changed = _changed_layer(student, teacher)
    if changed:
        yield Finding(f"its {changed} is no copy of the teacher's: recreate it with create_student")
    if getattr(student.config, "use_prompt", False):  # MVP's prompts are as many as the layers
        return
    whole = _logits(_at_full_depth(student, teacher), batches)
    if not _equal(whole, teacher_logits):
        overrides = ", ".join(config.student.overrides)
        what = f"`student.overrides` {overrides}" if overrides else _changed_weight(student, teacher)
        told = f"with all of the teacher's layers its loss on a training example is {_loss(whole, batches):.4f}"
        yield Finding(
            f"{told}, the teacher's {_loss(teacher_logits, batches):.4f}: look at {what}",
            "odd" if overrides else "wrong",
        )


def _compare_with_guessing(name: str, loss: float, vocabulary: int) -> None:
    guessing = math.log(vocabulary)
    if loss > guessing:
        _warn(
            f"{name}: its loss on training examples is {loss:.1f}, no better than guessing ({guessing:.1f}): are "
            "`data`, the languages and `encode.prefix` those that it knows?"
        )


def _cut(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """The first tokens of a row, and its last two: the end and, in some families, the language."""
    sources_and_labels = {name: field for name, field in batch.items() if name not in NAMES.values()}
    fields = {
        name: field for name, field in sources_and_labels.items() if isinstance(field, Tensor) and field.dim() == 2
    }
    for name, field in fields.items():
        length = LENGTHS.get(name, LENGTHS["input_ids"])
        if field.shape[1] > length:
            fields[name] = torch.cat([field[:, : length - 2], field[:, -2:]], dim=1)
    return fields


def _own_logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Logits of the model's own forward pass with labels, from which it makes the decoder inputs."""
    fields = dict(batch)
    # FSMT fails on labels alone, and so do most whose config leaves the start token to the generation config.
    nameless = (
        getattr(model.config, "decoder_start_token_id", None) is None
        and not architectures.architecture_of(model).nested
    )
    if model.config.model_type == "fsmt" or nameless:
        fields["decoder_input_ids"] = forward.decoder_inputs(model, fields.pop("labels"))
    logits: Tensor = model(**fields, use_cache=False).logits
    return logits


def _logits(model: PreTrainedModel, batches: Sequence[Batch]) -> list[Tensor]:
    """Logits [1, T, V] of each batch, as in training."""
    model.eval()
    states = [forward.encode(model, batch) for batch in batches]
    inputs = [forward.decoder_inputs(model, batch["labels"]) for batch in batches]
    passes = zip(batches, states, inputs, strict=True)
    return [forward.head(model, forward.decode(model, *own)) for own in passes]


def _loss(logits: Sequence[Tensor], batches: Sequence[Batch]) -> float:
    """Cross-entropy in nats a token."""
    terms = [cross_entropy(scores, batch["labels"]) for scores, batch in zip(logits, batches, strict=True)]
    return float(sum(term.sum for term in terms) / sum(term.count for term in terms))


def _equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE) for a, b in pairs)


def _ties(model: PreTrainedModel) -> dict[str, bool]:
    """Which matrices are one and the same parameter."""
    encoder, decoder = architectures.token_embeddings(model)
    head = forward.output_head(model).weight
    return {"decoder embeddings and head": decoder is head, "encoder and decoder embeddings": encoder is decoder}


def _layers(model: PreTrainedModel) -> dict[str, nn.ModuleList]:
    return {"encoder": architectures.encoder_layers(model), "decoder": architectures.decoder_layers(model)}


def _changed_layer(student: PreTrainedModel, teacher: PreTrainedModel) -> str | None:
    """The first layer that is not a copy of the teacher's layer that it names."""
    teacher_layers = _layers(teacher)
    for side, layers in _layers(student).items():
        for index, (layer, origin) in enumerate(
            zip(layers, getattr(student.config, f"distilled_{side}_layers"), strict=True)
        ):
            # a first T5 block has, besides its own weights, the position biases
            weights = layer.state_dict()
            teacher_weights = teacher_layers[side][origin].state_dict()
            if not all(torch.equal(weights[name], weight) for name, weight in teacher_weights.items()):
                return f"{side} layer {index}"
    return None


def _changed_weight(student: PreTrainedModel, teacher: PreTrainedModel) -> str:
    """The first weight outside the layers that is not the teacher's."""
    teacher_weights = teacher.state_dict()
    inside = {id(weight) for layers in _layers(student).values() for weight in layers.parameters()}
    for name, weight in student.state_dict(keep_vars=True).items():
        if id(weight) not in inside and not (name in teacher_weights and torch.equal(weight, teacher_weights[name])):
            return name
    return "the settings in its config"


def _at_full_depth(student: PreTrainedModel, teacher: PreTrainedModel) -> PreTrainedModel:
    """A student that has all the teacher's layers, and shares all weights with the two: only modules are copied."""
    tensors = {id(t): t for model in (student, teacher) for t in (*model.parameters(), *model.buffers())}
    memo: dict[int, Any] = dict(tensors)
    whole = copy.deepcopy(student, memo)
    teacher_layers = _layers(teacher)
    for side, layers in _layers(whole).items():
        del layers[:]
        layers.extend(copy.deepcopy(teacher_layers[side], memo))
    architectures.set_depths(whole.config, *architectures.depths(teacher.config))
    family = architectures.architecture_of(teacher)
    for config, teacher_config in zip(
        architectures.stack_configs(whole.config), architectures.stack_configs(teacher.config), strict=True
    ):
        for key in family.per_layer:
            setattr(config, key, copy.copy(getattr(teacher_config, key)))
    return whole


def _student_name(config: RunConfig) -> str:
    if config.student.path:
        return f"`student.path` {config.student.path}"
    if config.student.config:
        return f"`student.config` {config.student.config}"
    return "the student cut from the teacher"
