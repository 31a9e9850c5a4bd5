"""A model with some rows of its embeddings and its head: over these tokens, its distribution renormalised."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from seq2seq_distill.models import architectures, forward
from seq2seq_distill.shrink.depth import rebuild_settings
from seq2seq_distill.shrink.token_ids import replace_ids
from seq2seq_distill.utils.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def take_rows(model: PreTrainedModel, source: Sequence[int], target: Sequence[int]) -> PreTrainedModel:
    """A copy of the model with these rows of the vocabularies of sources and targets, in this order.

    Its logits are the model's at `target`. What was one matrix stays one, unless `source` and `target` differ, which
    only Marian models can hold. All ids in its configs are the new ones, and `config.trimmed_vocabulary` holds how many
    tokens there were.

    Args:
        model: left as it is.
        source: rows of the encoder's embeddings.
        target: rows of the decoder's embeddings, of the head and of its bias.

    Raises:
        ModelError: a token is gone that the model needs, or whose id decides its positions.
    """
    trimmed = copy.deepcopy(model)
    encoder, decoder = architectures.token_embeddings(trimmed)
    before = [len(encoder), len(decoder)]
    if list(source) != list(target) and encoder is decoder:
        trimmed = _with_two_vocabularies(trimmed)
        encoder, decoder = architectures.token_embeddings(trimmed)
    head = forward.output_head(trimmed).weight
    for side, wanted, there in (("source", source, encoder), ("target", target, decoder), ("target", target, head)):
        if max(wanted) >= len(there):
            raise ModelError(
                f"it has {len(there)} {side} tokens, but its tokenizer has a token with the id {max(wanted)}: save it "
                f"anew after resize_token_embeddings({max(wanted) + 1})"
            )
    rows = {id(encoder): source, id(decoder): target, id(head): target, id(_shared(trimmed)): source}
    cut: dict[int, nn.Parameter] = {}
    for module in trimmed.modules():
        for name, weight in list(module._parameters.items()):
            if weight is None or id(weight) not in rows:
                continue
            if id(weight) not in cut:
                index = torch.tensor(list(rows[id(weight)]), device=weight.device)
                cut[id(weight)] = nn.Parameter(weight.detach()[index], weight.requires_grad)
            module._parameters[name] = cut[id(weight)]
    bias: Any = getattr(trimmed, "final_logits_bias", None)
    if bias is not None:
        trimmed.final_logits_bias = bias[:, torch.tensor(list(target), device=bias.device)]
    _set_sizes(trimmed.config, len(source), len(target))
    trimmed.config.trimmed_vocabulary = before
    _replace_ids(trimmed, target)
    trainable = {name: weight.requires_grad for name, weight in trimmed.named_parameters()}
    rebuild_settings(trimmed)
    for name, weight in trimmed.named_parameters():
        weight.requires_grad_(trainable[name])
    return trimmed


def _shared(model: PreTrainedModel) -> Tensor:
    module: Any = model.get_input_embeddings()
    return module.weight


def _with_two_vocabularies(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, its encoder and decoder with embeddings of their own."""
    if model.config.model_type != "marian":
        raise ModelError(
            f"`trim.separate` true: a {model.config.model_type} model has one vocabulary for both sides: leave it out"
        )
    config, state = copy.deepcopy(model.config), model.state_dict()
    config.share_encoder_decoder_embeddings = False
    config.decoder_vocab_size = config.vocab_size
    with torch.random.fork_rng(devices=[]):
        two = type(model)(config)
    two.to(dtype=model.dtype, device=model.device).train(model.training)  # type: ignore[call-arg]
    two.load_state_dict({name: weight for name, weight in state.items() if not name.endswith("shared.weight")})
    two.generation_config = model.generation_config
    return two


def _set_sizes(config: PreTrainedConfig, source: int, target: int) -> None:
    keys = architectures.architecture_of(config).vocab
    for part, size in zip(architectures.stack_configs(config), (source, target), strict=True):
        for key in keys if part is not config else keys[:1]:
            setattr(part, key, size)
    for key, size in zip(keys, (source, target), strict=False):
        if hasattr(config, key):
            setattr(config, key, size)


def _replace_ids(model: PreTrainedModel, target: Sequence[int]) -> None:
    new = {old: number for number, old in enumerate(target)}
    start, pads = forward.decoder_start(model), architectures.stack_configs(model.config)[1].pad_token_id
    if start not in new:
        raise ModelError(
            f"its decoder starts with id {start}, for which the tokenizer has no token: set decoder_start_token_id in "
            "its config.json"
        )
    if model.config.model_type == "m2m_100" and new.get(pads) != pads:
        raise ModelError(f"its positions are counted from the id of pad, {pads}, which another token would get")
    replace_ids(model, new.get)
