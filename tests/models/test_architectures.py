"""Every family: the split forward pass is the model's own, and the table says what the model does."""

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from seq2seq_distill.models import architectures
from seq2seq_distill.models.architectures import (
    REFUSED,
    architecture_of,
    decoder_layers,
    depths,
    embedding_modules,
    encoder_layers,
    max_positions,
    set_depths,
    widths,
    zero_pad_row,
)
from seq2seq_distill.models.forward import decode, decoder_inputs, encode, head, output_head
from seq2seq_distill.models.hooks import Feature, capture_features
from seq2seq_distill.utils.errors import ModelError
from tests.tiny_models import FAMILIES, every_family, tiny_batch, tiny_model, untie_head

WEIGHTLESS = [
    (family.model_type, side)
    for family in architectures.ARCHITECTURES.values()
    for side, _ in family.no_attention_weights
]
FINAL_NORMS = {
    **dict.fromkeys(("mbart", "pegasus", "pegasus_x", "m2m_100", "blenderbot"), "layer_norm"),
    **dict.fromkeys(("t5", "mt5", "umt5", "longt5"), "final_layer_norm"),
    "bigbird_pegasus": "layernorm_embedding",
    "t5gemma": "norm",
}
"""The norm behind the last layer of each stack, of the families that have one."""


def source(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: field for name, field in batch.items() if name != "labels"}


@torch.no_grad()
def split_logits(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    inputs = decoder_inputs(model, batch["labels"])
    return head(model, decode(model, batch, encode(model, batch), inputs))


@every_family
@torch.no_grad()
def test_head_of_decode_of_encode_is_the_models_own_logits(model_type: str) -> None:
    model = tiny_model(model_type)
    batch = tiny_batch(model)
    inputs = decoder_inputs(model, batch["labels"])
    # use_cache=False: with its cache on, FSMT masks no future tokens, and T5Gemma no padding
    expected = model(**source(batch), decoder_input_ids=inputs, use_cache=False).logits
    assert expected.shape == (3, 5, 64)
    assert torch.equal(split_logits(model, batch), expected)


@every_family
@torch.no_grad()
def test_a_config_that_asks_for_tuples_changes_nothing(model_type: str) -> None:
    model = tiny_model(model_type)
    batch = tiny_batch(model)
    expected = split_logits(model, batch)
    for part in (model, model.get_encoder(), model.get_decoder()):
        getattr(part, "config", model.config).return_dict = False  # this was an AttributeError once
    assert torch.equal(split_logits(model, batch), expected)


@pytest.mark.parametrize("model_type", [name for name in FAMILIES if name != "fsmt"])
@torch.no_grad()
def test_decoder_inputs_are_those_of_the_models_own_training(model_type: str) -> None:
    """FSMT is left out: it fails on labels alone; its inputs are checked below."""
    model = tiny_model(model_type)
    batch = tiny_batch(model)
    expected = model(**source(batch), labels=batch["labels"].clone(), use_cache=False).logits
    assert torch.equal(split_logits(model, batch), expected)


@every_family
def test_decoder_inputs_leave_the_labels_alone_and_survive_an_empty_row(model_type: str) -> None:
    model = tiny_model(model_type)
    labels = tiny_batch(model)["labels"]
    labels[2] = -100
    before = labels.clone()
    inputs = decoder_inputs(model, labels)
    pad = architectures.stack_configs(model.config)[1].pad_token_id
    assert torch.equal(labels, before)
    assert torch.equal(inputs[:, 1:], labels[:, :-1].masked_fill(labels[:, :-1] == -100, pad))
    assert inputs.min() >= 0


@every_family
@torch.no_grad()
def test_no_position_sees_a_later_one(model_type: str) -> None:
    model = tiny_model(model_type)
    batch = tiny_batch(model)
    state, inputs = encode(model, batch), decoder_inputs(model, batch["labels"])
    changed = inputs.clone()
    changed[:, 3] = 61
    before, after = (decode(model, batch, state, ids) for ids in (inputs, changed))
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3], after[:, 3])


@pytest.mark.parametrize("model_type", ["mbart", "plbart", "fsmt"])
def test_wrapping_families_start_with_the_last_label_of_the_row(model_type: str) -> None:
    model = tiny_model(model_type)
    labels = torch.tensor([[7, 8, 9, 2], [7, 3, -100, -100]])
    assert decoder_inputs(model, labels).tolist() == [[2, 7, 8, 9], [3, 7, 3, model.config.pad_token_id]]


@pytest.mark.parametrize("model_type", ["t5", "marian", "pegasus"])
def test_the_first_target_token_counts_where_decoding_starts_with_pad(model_type: str) -> None:
    """H2: a mask of `decoder_input_ids != pad` dropped the first target token of these architectures."""
    model = tiny_model(model_type)
    batch = tiny_batch(model)
    inputs = decoder_inputs(model, batch["labels"])
    assert (inputs[:, 0] == model.config.pad_token_id).all()
    hidden = decode(model, batch, encode(model, batch), inputs)
    loss = torch.nn.functional.cross_entropy(head(model, hidden).transpose(1, 2), batch["labels"])
    (gradient,) = torch.autograd.grad(loss, hidden)
    assert torch.equal(gradient.abs().sum(-1) > 0, batch["labels"] != -100)


def test_a_model_without_start_token_is_told_so() -> None:
    model = tiny_model("t5")
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    with pytest.raises(ModelError, match="t5 model does not set decoder_start_token_id"):
        decoder_inputs(model, tiny_batch(model)["labels"])
    model.generation_config.decoder_start_token_id = 0
    assert decoder_inputs(model, tiny_batch(model)["labels"])[0, 0] == 0


@every_family
def test_the_table_knows_depth_width_and_layers(model_type: str) -> None:
    model = tiny_model(model_type, encoder_layers=2, decoder_layers=3)
    assert architecture_of(model) is architecture_of(model.config)
    assert depths(model.config) == (len(encoder_layers(model)), len(decoder_layers(model))) == (2, 3)
    assert widths(model.config) == (16, 16)
    set_depths(model.config, 1, 2)
    assert depths(model.config) == (1, 2)


@every_family
@torch.no_grad()
def test_layer_outputs_are_the_hidden_states_after_each_layer(model_type: str) -> None:
    """H1: `hidden_states[0]` is the embeddings; a layer's output is what is supervised."""
    model = tiny_model(model_type, encoder_layers=2, decoder_layers=3)
    batch = tiny_batch(model)
    inputs = decoder_inputs(model, batch["labels"])
    wanted = {Feature(side, "hidden", layer) for side, layer in (("encoder", 0), ("encoder", 1), ("decoder", 0))}
    with capture_features(model, wanted, source_length=7) as features:
        decode(model, batch, encode(model, batch), inputs)
    assert features.keys() == wanted
    assert all(hidden.shape == (3, 7 if key.side == "encoder" else 5, 16) for key, hidden in features.items())
    encoder, decoder = (features[Feature(side, "hidden", 0)] for side in ("encoder", "decoder"))
    assert not any(layer._forward_hooks for layer in [*encoder_layers(model), *decoder_layers(model)])
    outputs = model(**source(batch), decoder_input_ids=inputs, use_cache=False, output_hidden_states=True)
    assert torch.equal(encoder, outputs.encoder_hidden_states[1][:, :7])
    if model_type == "prophetnet":
        assert torch.equal(decoder, outputs.decoder_ngram_hidden_states[1][:, :5])
    else:
        assert torch.equal(decoder, outputs.decoder_hidden_states[1])


@every_family
@torch.no_grad()
def test_the_last_layers_output_is_taken_before_the_final_norm(model_type: str) -> None:
    """H11: the last hidden state of pre-norm models is after that norm, on another scale than all before it."""
    model = tiny_model(model_type)
    batch, sides = tiny_batch(model), ("encoder", "decoder")
    norms = [
        getattr(stack, FINAL_NORMS.get(model_type, ""), None) for stack in (model.get_encoder(), model.get_decoder())
    ]
    for norm in filter(None, norms):
        norm.weight.copy_(torch.linspace(2, 3, 16))  # a fresh norm changes little
    wanted = [Feature(side, "hidden", len(architectures.layers(model, side)) - 1) for side in sides]
    with capture_features(model, wanted, source_length=7) as features:
        state = encode(model, batch)
        outputs = state[:, :7], decode(model, batch, state, decoder_inputs(model, batch["labels"]))
    for feature, norm, output in zip(wanted, norms, outputs, strict=True):
        before = features[feature]
        assert torch.equal(before, output) == (norm is None)
        torch.testing.assert_close(before if norm is None else norm(before), output)


@every_family
@torch.no_grad()
def test_attention_weights_are_those_that_the_model_returns(model_type: str) -> None:
    model = tiny_model(model_type, decoder_layers=3)
    if model.config._attn_implementation != "eager":
        model.set_attn_implementation("eager")
    batch = tiny_batch(model)
    inputs = decoder_inputs(model, batch["labels"])
    kinds = {("encoder", "self_attention"), ("decoder", "self_attention"), ("decoder", "cross_attention")}
    kinds = {kind for kind in kinds if kind[0] not in dict(architecture_of(model).no_attention_weights)}
    wanted = {Feature(*kind, layer) for kind in kinds for layer in (0, 1)}
    with capture_features(model, wanted) as features:
        decode(model, batch, encode(model, batch), inputs)
    assert features.keys() == wanted
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    outputs = model(**source(batch), decoder_input_ids=inputs, use_cache=False, output_attentions=True)
    names = {"self_attention": "{}_attentions", "cross_attention": "cross_attentions"}
    for feature, weights in features.items():
        expected = outputs[names[feature.kind].format(feature.side)][feature.layer]
        assert torch.equal(weights, expected), feature
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        lengths = {("encoder", "self_attention"): (7, 7), ("decoder", "self_attention"): (5, 5)}
        assert weights.shape == (3, 2, *lengths.get((feature.side, feature.kind), (5, 7)))


@pytest.mark.parametrize(("model_type", "side"), WEIGHTLESS)
def test_attention_without_weights_is_refused(model_type: str, side: str) -> None:
    with pytest.raises(ModelError, match=f"the {side} of {model_type} models .*so there are no attention weights"):
        architectures.attention(tiny_model(model_type), side, "self_attention", 0)


@pytest.mark.parametrize(
    "model_type", [name for name in FAMILIES if hasattr(AutoConfig.for_model(name), "decoder_layerdrop")]
)
def test_layers_skipped_by_layerdrop_are_absent_and_shift_nothing(model_type: str) -> None:
    model = tiny_model(model_type, encoder_layers=6, decoder_layers=6, decoder_layerdrop=0.5).train()
    batch = tiny_batch(model)
    inputs = decoder_inputs(model, batch["labels"])
    seen = []
    torch.manual_seed(0)
    for _ in range(4):
        calls: list[int] = []
        layers = decoder_layers(model)
        handles = [
            layer.register_forward_pre_hook(lambda *args, i=i, calls=calls: calls.append(i))
            for i, layer in enumerate(layers)
        ]
        with capture_features(model, [Feature("decoder", "hidden", layer) for layer in range(6)]) as features:
            decode(model, batch, encode(model, batch), inputs)
        for handle in handles:
            handle.remove()
        assert [feature.layer for feature in features] == calls
        seen.append(len(calls))
    assert min(seen) < 6


@every_family
@torch.no_grad()
def test_position_limits_are_exact(model_type: str) -> None:
    model = tiny_model(model_type)
    limits = max_positions(model.config)
    longest = [limit or 60 for limit in limits]
    assert split_logits(model, tiny_batch(model, 1, *longest)).isfinite().all()
    if limits[0] is not None and model_type != "prophetnet":
        with pytest.raises((IndexError, RuntimeError)):
            encode(model, tiny_batch(model, 1, longest[0] + 1))
    if limits[1] is not None:
        with pytest.raises((IndexError, RuntimeError)):
            split_logits(model, tiny_batch(model, 1, 7, longest[1] + 1))


def test_prophetnets_source_limit_is_where_positions_repeat() -> None:
    """Beyond the limit ProphetNet raises nothing: it gives every further token the last position."""
    model = tiny_model("prophetnet")
    limit = max_positions(model.config)[0]
    assert limit is not None
    _, positions = model.get_encoder().position_embeddings((1, limit + 1), torch.device("cpu"))
    assert len(positions.unique()) == limit and positions[0, limit] == positions[0, limit - 1]


def test_led_source_limit_is_whole_windows() -> None:
    assert max_positions(tiny_model("led", max_encoder_position_embeddings=50).config) == (48, 48)


@every_family
def test_head_parts_are_the_parameters_themselves(model_type: str) -> None:
    model = tiny_model(model_type)
    parts = output_head(model)
    assert parts.weight.shape == (64, 16)
    assert any(parts.weight is weight for weight in model.parameters())


@torch.no_grad()
def test_untied_t5_heads_are_used_as_they_are() -> None:
    for scaled in (True, False):
        model = untie_head(tiny_model("t5", tie_word_embeddings=scaled))
        batch = tiny_batch(model)
        inputs = decoder_inputs(model, batch["labels"])
        assert output_head(model).scale == (0.25 if scaled else 1.0)
        expected = model(**source(batch), decoder_input_ids=inputs).logits
        assert torch.equal(split_logits(model, batch), expected)


@every_family
def test_embedding_modules_are_tokens_and_positions_once(model_type: str) -> None:
    model = tiny_model(model_type)
    modules = embedding_modules(model)
    assert len({id(module) for module in modules}) == len(modules)
    tokens = {module.weight for module in model.modules() if getattr(module, "num_embeddings", None) == 64}
    assert tokens <= {module.weight for module in modules if hasattr(module, "weight")}
    positions = [module for module in modules if "Position" in type(module).__name__]
    assert len(positions) == (0 if "t5" in model_type else 2)


@every_family
def test_only_marian_has_a_pad_row_that_stays_zero(model_type: str) -> None:
    model = tiny_model(model_type)
    row = zero_pad_row(model)
    assert (row is not None) == (model_type == "marian")
    if row is not None:
        assert row is model.lm_head.weight
        with torch.no_grad():
            row[model.config.pad_token_id] = 1.0
        assert zero_pad_row(model) is None


@torch.no_grad()
def test_bigbird_attention_does_not_depend_on_earlier_batches() -> None:
    """Left to itself, BigBird turns sparse attention off for good at the first short batch."""
    model = tiny_model("bigbird_pegasus", attention_type="block_sparse", block_size=2, num_random_blocks=1)
    long, short = tiny_batch(model, 2, 40), tiny_batch(model, 2, 9)
    first = encode(model, long)
    assert model.get_encoder().attention_type == "block_sparse"
    encode(model, short)
    state = torch.get_rng_state()
    assert torch.equal(encode(model, long), first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("model_type", sorted(REFUSED))
def test_other_architectures_are_refused_by_name_with_the_reason(model_type: str) -> None:
    config = AutoConfig.for_model("bart")
    config.__dict__["model_type"] = model_type
    with pytest.raises(ModelError, match=f"'{model_type}' is not supported: its? "):
        architecture_of(config)


def test_no_text_family_of_transformers_is_forgotten() -> None:
    texts = {
        *(
            "bart",
            "bigbird_pegasus",
            "blenderbot",
            "blenderbot-small",
            "encoder-decoder",
            "fsmt",
            "led",
            "longt5",
        ),
        *(
            "m2m_100",
            "marian",
            "mbart",
            "mt5",
            "mvp",
            "nllb-moe",
            "pegasus",
            "pegasus_x",
            "plbart",
            "prophetnet",
        ),
        *("seamless_m4t", "seamless_m4t_v2", "switch_transformers", "t5", "t5gemma", "t5gemma2", "umt5"),
    }
    assert texts == architectures.ARCHITECTURES.keys() | REFUSED.keys()


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ModelError, match="'gpt2' is not supported: it is not a known encoder-decoder text model"):
        architecture_of(AutoConfig.for_model("gpt2"))
