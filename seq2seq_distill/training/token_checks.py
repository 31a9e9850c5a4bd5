"""Do the token ids of a model, its tokenizer and the training data fit each other?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow.compute as pc
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill.config import RunConfig
from seq2seq_distill.data.encoded_splits import EncodedSplits
from seq2seq_distill.models import architectures, forward
from seq2seq_distill.training.views import EncodedView

Rows = Sequence[Sequence[int]]
"""Training targets, as ids."""


@dataclass(frozen=True)
class Finding:
    """Something that is off in a model; the line goes on where the model's name ends."""

    line: str
    severity: Literal["wrong", "unlike", "odd"] = "wrong"
    """wrong: in any model. unlike: in a student whose teacher is not so. odd: it may be meant so."""


def check_special_tokens(model: PreTrainedModel, rows: Rows, reading: EncodedView) -> Iterator[Finding]:
    """What is off in a model's own tokens.

    All tokens have embeddings; training and generation start the decoder with the same token, a special one; the
    targets begin with the forced first token, if there is one, and end where decoding stops; the pad token is the
    tokenizer's.
    """
    settings, tokenizer = model.generation_config, reading.tokenizer
    yield from _vocabulary(model, reading.data, tokenizer)
    pad = architectures.stack_configs(model.config)[1].pad_token_id
    if tokenizer.pad_token_id not in (None, pad):
        told = f"its pad token is {_token(tokenizer, pad)}, the tokenizer's {_token(tokenizer, tokenizer.pad_token_id)}"
        yield Finding(f"{told}: set pad_token_id {tokenizer.pad_token_id} in its config.json", "unlike")
    start = settings.decoder_start_token_id
    start = settings.bos_token_id if start is None else start
    trained = _most(_starts(model, rows))
    if trained != start:
        yield Finding(
            f"training starts its decoder with {_token(tokenizer, trained)}, generation with "
            f"{_token(tokenizer, start)}: set the same decoder_start_token_id in config.json and generation_config.json"
        )
    elif start not in tokenizer.all_special_ids:
        told = f"its decoder starts with {_token(tokenizer, start)}, which is no special token"
        yield Finding(f"{told}: check decoder_start_token_id in its config.json", "odd")
    forced, first = settings.forced_bos_token_id, _most([row[0] for row in rows if row])
    if forced is not None and forced != first:
        yield Finding(
            f"decoding forces {_token(tokenizer, forced)} as first token, but the training targets begin with "
            f"{_token(tokenizer, first)}: set forced_bos_token_id in its generation_config.json to that, or to null",
            "unlike",
        )
    yield from _ends(model, rows, tokenizer)


def _vocabulary(model: PreTrainedModel, data: EncodedSplits, tokenizer: PreTrainedTokenizerBase) -> Iterator[Finding]:
    highest, token = max((id_, token) for token, id_ in tokenizer.get_vocab().items())
    encoder, decoder = map(len, architectures.token_embeddings(model))
    decoder = min(decoder, len(forward.output_head(model).weight))
    for side, column, size in (("encoder", "input_ids", encoder), ("decoder", "labels", decoder)):
        if highest < size:
            continue
        remedy = f"save it anew after resize_token_embeddings({highest + 1})"
        used = pc.max(pc.list_flatten(data.encoded["train"].data.column(column))).as_py()
        if used >= size:
            yield Finding(f"its {side} has {size} tokens, but the training data goes up to id {used}: {remedy}")
        elif (
            side == "encoder" or len(architectures.architecture_of(model).vocab) == 1
        ):  # else the tokenizer has two vocabularies
            yield Finding(f"its {side} has {size} tokens, but {token!r} of the tokenizer is {highest}: {remedy}", "odd")


def _ends(model: PreTrainedModel, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> Iterator[Finding]:
    """Would decoding give the targets whole, and stop?"""
    ends, first = _end_ids(model), int(model.generation_config.forced_bos_token_id is not None)
    stops = [next((i for i in range(first, len(row)) if row[i] in ends), None) for row in rows]
    named = " or ".join(_token(tokenizer, end) for end in sorted(ends)) or "no token: eos_token_id is missing"
    if sum(stop is None for stop in stops) > len(rows) / 2:
        yield Finding(
            f"decoding stops at {named}, but the training targets end with "
            f"{_token(tokenizer, _most([row[-1] for row in rows if row]))}, so that a student never learns to stop: "
            "set eos_token_id in its generation_config.json to the token that the tokenizer appends, or let it append "
            "one"
        )
    # behind the end stands the language of the first mBART and of PLBart
    elif sum(stop is not None and stop < len(row) - 2 for stop, row in zip(stops, rows, strict=True)) > len(rows) / 2:
        yield Finding(
            f"decoding stops at {named}, which stands in the middle of the training targets: set eos_token_id in its "
            "generation_config.json to the token that ends them"
        )


def token_differences(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    config: RunConfig,
) -> Iterator[Finding]:
    """Where a student's tokens are not the teacher's: decoder inputs, vocabulary (`kd`), ends, forced first token."""
    student_start, teacher_start = (_most(_starts(model, rows)) for model in (student, teacher))
    if student_start != teacher_start and config.method == "kd":
        wraps = architectures.architecture_of(student).start == "wrap"
        remedy = "choose another model_type" if wraps else f"set decoder_start_token_id {teacher_start} in its config"
        yield Finding(
            f"training starts its decoder with {_token(tokenizer, student_start)}, the teacher's with "
            f"{_token(tokenizer, teacher_start)}, and feeds both the same: {remedy}"
        )
    size, teacher_size = (forward.output_head(model).weight.shape[0] for model in (student, teacher))
    if size != teacher_size and config.method == "kd":
        remedy = f"call resize_token_embeddings({teacher_size}) on it and save it"
        if config.student.config:
            remedy = f"set {architectures.architecture_of(student).vocab[-1]} {teacher_size} in its config"
        yield Finding(f"it chooses among {size} tokens, the teacher among {teacher_size}: {remedy}")
    ends, teacher_ends = (sorted(_end_ids(model)) for model in (student, teacher))
    if ends != teacher_ends:
        yield Finding(f"it stops decoding at {ends}, the teacher at {teacher_ends}", "odd")
    forced, teacher_forced = (model.generation_config.forced_bos_token_id for model in (student, teacher))
    if forced != teacher_forced:
        yield Finding(f"its decoding forces {forced} as first token, the teacher's {teacher_forced}", "odd")


def _starts(model: PreTrainedModel, rows: Rows) -> list[int]:
    """The first decoder input in training, row by row."""
    return [int(forward.decoder_inputs(model, torch.tensor([row]))[0, 0]) for row in rows if row]


def _end_ids(model: PreTrainedModel) -> set[int]:
    ends = model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends} - {None}


def _most(ids: Sequence[int]) -> int:
    return max(sorted(set(ids)), key=ids.count)


def _token(tokenizer: PreTrainedTokenizerBase, token_id: int | None) -> str:
    if token_id is None or not 0 <= token_id <= max(tokenizer.get_vocab().values()):
        return str(token_id)
    return f"{token_id} {tokenizer.convert_ids_to_tokens(token_id)!r}"
