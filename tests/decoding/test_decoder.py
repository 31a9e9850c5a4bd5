"""Decoding sources in length order, and giving outputs back in theirs."""

from typing import Any

from transformers import PreTrainedModel

from seq2seq_distill.decoding.decoder import Hypothesis, TransformersDecoder
from seq2seq_distill.decoding.generation import GenerationSettings, generation_config
from seq2seq_distill.decoding.loading import LoadedModel
from tests.decoding.test_generation import EXTRAS, collate, rows, tiny, tokenizer  # noqa: F401

Rows = list[dict[str, Any]]


def loaded_model(model: PreTrainedModel, tokenizer: Any, **settings: Any) -> LoadedModel:  # noqa: F811
    config = generation_config(model, GenerationSettings(**{"max_length": 12} | settings))
    return LoadedModel(model, tokenizer, "", None, config)


def decode(
    model: PreTrainedModel,
    tokenizer: Any,  # noqa: F811
    rows: Rows,  # noqa: F811
    batch_size: int = 32,
    **settings: Any,
) -> list[Hypothesis]:
    decoder = TransformersDecoder(loaded_model(model, tokenizer, **settings), batch_size=batch_size)
    return [best for (best,) in decoder.decode([row["input_ids"] for row in rows], with_scores=False)]
