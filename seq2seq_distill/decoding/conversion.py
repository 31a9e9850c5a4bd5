"""A model as a CTranslate2 specification: the weights by CTranslate2's own loaders, and right what these get wrong.

Found with CTranslate2 4.8.5 and transformers 5.23, where a loader reads what configs of version 5 no longer have, or
does not fit a fine-tuned model:

- BART, Pegasus and mBART configs do not say where the norms are.
- M2M100's language tokens are not where the loader looks for them; T5's vocabulary is shorter than its embedding.
- T5 v1.1 and mT5 do not scale the decoder's output, whatever their config says of ties.
- Marian starts decoding from the pad token's embedding. The loader starts from zero instead and cuts off the last row,
  be it pad's or not; after training with a tied head the row is not zero. Here pad stays, as a token that is never
  chosen.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from seq2seq_distill.models import forward
from seq2seq_distill.utils.errors import ModelError
from seq2seq_distill.utils.files import write_json
from seq2seq_distill.utils.optional import optional

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOADERS = {
    "bart": "BartConfig",
    "mbart": "BartConfig",
    "pegasus": "BartConfig",
    "marian": "BartConfig",
    "m2m_100": "M2M100Config",
    "t5": "T5Config",
    "mt5": "MT5Config",
}
"""Model type to the configuration whose loader reads its weights."""
NORMS = {"bart": (False, True), "pegasus": (True, False), "mbart": (True, True), "marian": (False, False)}
"""Whether norms come before a layer's parts, and whether embeddings are normed."""
FIRST_IDS = "first_ids.json"
"""File with the ids of the tokens that have the first rows, where rows are not in the order of ids."""
NEVER = -1e4
"""Bias of a token that must not be chosen; float16 holds it."""
HELD_OPTIONS = (
    *("early_stopping", "min_length", "min_new_tokens", "no_repeat_ngram_size", "repetition_penalty"),
    *("suppress_tokens", "bad_words_ids"),
)
"""Options of `generate`, besides those with a flag of their own, that exported models decode with too."""
_WITHOUT_EFFECT = (
    *("max_length", "num_beams", "length_penalty", "num_return_sequences", "max_new_tokens"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"),
    *("forced_bos_token_id", "forced_eos_token_id", "do_sample", "use_cache", "transformers_version"),
    *("cache_implementation", "cache_config", "renormalize_logits", "remove_invalid_values"),
    *("return_dict_in_generate", "output_attentions", "output_hidden_states", "output_scores", "output_logits"),
)
"""Settings that CTranslate2 has by other names, or that do not change which output is the best."""


def specification(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, wanted_by: str, first: Collection[int] = ()
) -> Any:
    """The specification, ready to be validated, quantised and saved.

    Args:
        model: in float32, on the CPU; flags are added to its config.
        tokenizer: the model's.
        wanted_by: opens a message.
        first: target tokens that get the first rows of the vocabulary, which is then in another order than the
            tokenizer's.

    Raises:
        ConfigError: CTranslate2 is not installed.
        ModelError: the model cannot be converted.
    """
    kind, config = model.config.model_type, model.config
    check_family(kind, (*LOADERS,), wanted_by)
    heads = {getattr(config, f"{side}_attention_heads", None) for side in ("encoder", "decoder")}
    if len(heads) > 1:
        raise ModelError(
            f"{wanted_by} cannot hold a model whose encoder and decoder differ in attention heads, {heads}"
        )
    if kind in NORMS:
        config.normalize_before, config.normalize_embedding = NORMS[kind]
    with torch.no_grad():
        loader = optional("ctranslate2.converters.transformers", wanted_by)._MODEL_LOADERS[LOADERS[kind]]
        spec = loader.get_model_spec(model)
    scale = forward.output_head(model).scale
    spec.decoder.scale_outputs = optional("ctranslate2.specs.model_spec", wanted_by).OPTIONAL if scale == 1.0 else scale
    if kind == "marian":
        bias = forward.output_head(model).bias
        assert bias is not None
        spec.decoder.projection.bias = _without(bias.flatten(), config.pad_token_id)
    sources, tokens = vocabularies(model, tokenizer)
    start = tokens[_decoding_start(model)]
    for role in ("bos", "eos", "unk"):
        setattr(spec.config, f"{role}_token", _token(tokens, getattr(tokenizer, f"{role}_token_id", None)))
    if first:
        sources, tokens = _reorder(spec, sources, tokens, first)
    spec.register_source_vocabulary(sources)
    spec.register_target_vocabulary(tokens)
    spec.config.decoder_start_token = start
    if spec.config.bos_token is None:
        spec.config.bos_token = spec.config.decoder_start_token
    return spec


def _reorder(spec: Any, sources: list[str], tokens: list[str], first: Collection[int]) -> tuple[list[str], list[str]]:
    """The vocabularies with the tokens of these ids first; the rows of the embeddings and the head follow."""
    order = order_of_rows(first, len(tokens))
    embeddings = [spec.decoder.embeddings, *(spec.encoder.embeddings if sources == tokens else ())]
    for layer in (*embeddings, spec.decoder.projection):
        layer.weight = layer.weight[order]
    if spec.decoder.projection.bias is not None and not isinstance(spec.decoder.projection.bias, str):
        spec.decoder.projection.bias = spec.decoder.projection.bias[order]
    targets = [tokens[row] for row in order]
    return targets if sources == tokens else sources, targets


def order_of_rows(first: Collection[int], size: int) -> list[int]:
    """The tokens' ids by row, where some come first and the others follow in their order."""
    return [*dict.fromkeys([*sorted(first), *range(size)])]


def check_family(model_type: str, known: Sequence[str], wanted_by: str) -> None:
    """Raise ModelError, which opens with `wanted_by`, for a model type that is not among the known."""
    if model_type not in known:
        raise ModelError(f"{wanted_by} cannot hold {model_type} models: choose one of {', '.join(known)}")


def _decoding_start(model: PreTrainedModel) -> int:
    """The token that `generate` starts from, which a language may have decided, whatever config.json says."""
    start = model.generation_config.decoder_start_token_id
    return forward.decoder_start(model) if start is None else int(start)


def save_converted(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: GenerationConfig,
    quantization: str,
    wanted_by: str,
    first: Collection[int] = (),
) -> None:
    """The converted model, and beside it the tokenizer and the generation settings, which it does not hold.

    The tokenizer stays as it is: where `first` gives the model's rows another order, a file holds these ids.
    """
    # The converter rounds the weights where they are.
    spec = specification(copy.deepcopy(model), tokenizer, wanted_by, first)
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))
    tokenizer.save_pretrained(folder)
    settings.save_pretrained(folder)
    if first:
        write_json(folder / FIRST_IDS, sorted(first))


def saved_vocabularies(folder: Path) -> tuple[list[str], list[str]]:
    """The tokens of sources and of targets by the ids of the tokenizer, of a folder as `save_converted` fills it."""
    shared, *files = (folder / f"{side}_vocabulary.json" for side in ("shared", "source", "target"))
    source, target = (json.loads(file.read_text("utf-8")) for file in ([shared] * 2 if shared.is_file() else files))
    if not (folder / FIRST_IDS).is_file():
        return source, target
    order = order_of_rows(json.loads((folder / FIRST_IDS).read_text("utf-8")), len(target))
    by_id = [token for _, token in sorted(zip(order, target, strict=True))]
    return by_id if shared.is_file() else source, by_id


def vocabularies(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[list[str], list[str]]:
    """The token of every row of the encoder's embedding, and of the output head.

    A row that the tokenizer does not know gets a name of its own.
    """
    encoder = getattr(tokenizer, "target_encoder", None) and {row: token for token, row in tokenizer.encoder.items()}
    size = len(forward.output_head(model).weight)
    known: list[str | None] = [*tokenizer.convert_ids_to_tokens([*range(min(size, len(tokenizer)))])]
    if not encoder:  # all but Marian with a vocabulary for each side
        return (named(known, size),) * 2
    decoder = {row: token for token, row in tokenizer.target_encoder.items()}
    rows = len(model.get_encoder().get_input_embeddings().weight)
    return named([*map(encoder.get, range(rows))], rows), named([*map(decoder.get, range(size))], size)


def named(tokens: Sequence[str | None], size: int) -> list[str]:
    """`size` different names: those of tokens, and names for rows without one or with one that was there before."""
    names: dict[str, None] = {}
    for index in range(size):
        token = tokens[index] if index < len(tokens) else None
        names[f"<unused_{index}>" if token is None or token in names else token] = None
    return list(names)


def _without(bias: torch.Tensor, token: int) -> torch.Tensor:
    bias = bias.clone().float()
    bias[token] = NEVER
    return bias


def _token(tokens: list[str], index: int | None) -> str | None:
    return None if index is None or index >= len(tokens) else tokens[index]


def unknown_to_engines(options: Mapping[str, Any], own: GenerationConfig | None = None) -> list[str]:
    """Names of the options of `generate` that exported models do not decode with.

    Args:
        options: by name.
        own: of an exported model. What it says already was there when outputs were compared, and is no wish to refuse.
    """
    wishes = {name for name, value in options.items() if own is None or getattr(own, name, None) != value}
    return sorted(wishes.difference(HELD_OPTIONS))


def not_held(settings: GenerationConfig) -> dict[str, Any]:
    """The generation settings of a model that exported models do not decode with, and that may change outputs."""
    held = {*HELD_OPTIONS, *_WITHOUT_EFFECT}
    settings_made = {name: value for name, value in settings.to_diff_dict().items() if not name.startswith("_")}
    return {name: value for name, value in settings_made.items() if name not in held and value not in (None, False)}


def check_exported_options(
    given: str, options: Mapping[str, Any], own: GenerationConfig, engine: str = "CTranslate2"
) -> None:
    """Raise ModelError, opened with `given` (a flag and its value), for options that an exported model cannot take."""
    if unknown := unknown_to_engines(options, own):
        raise ModelError(
            f"{given} is an exported model, and {engine} has no {', '.join(unknown)} of `generate`: "
            "leave it out, or give the original model"
        )
