"""Rows of embeddings: those without a token, and those that a checkpoint has under one of their names."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from seq2seq_distill.models import forward
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.models.vocabulary_rows import drop_padding_rows
from tests.tiny_models import families, tiny_batch, tiny_model

ROWS = 64
TIED = {
    "t5": ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"),
    "bart": (
        *("model.shared.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"),
        "lm_head.weight",
    ),
}
TIED |= {"mt5": TIED["t5"], "pegasus": TIED["bart"], "m2m_100": TIED["bart"]}


def logits(model, batch):
    inputs = forward.decoder_inputs(model, batch["labels"])
    with torch.no_grad():
        return forward.head(model, forward.decode(model, batch, forward.encode(model, batch), inputs))


@families("fsmt", "prophetnet", "marian")
def test_rows_without_a_token_go_and_the_others_stay(model_type, tmp_path):
    """Once a student whose embedding was padded to 84 rows could not learn from a teacher of 80."""
    model = tiny_model(model_type)
    batch = tiny_batch(model)
    before = logits(model, batch)
    model.resize_token_embeddings(ROWS + 8, mean_resizing=False)
    for tokens, expected in ((ROWS + 4, ROWS + 8), (ROWS - 3, ROWS)):  # the first would lose tokens
        drop_padding_rows(model, ROWS, tokens, "it")
        assert len(forward.output_head(model).weight) == expected
    assert torch.equal(logits(model, batch), before)
    drop_padding_rows(model, ROWS + 9, ROWS, "it")
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(load_pretrained(tmp_path), batch), before)


def test_a_head_of_its_own_stays_so(tmp_path):
    """Resizing tied it to the embedding: the model wrote something else then, before any check."""
    model = tiny_model("mt5", vocab_size=ROWS + 8)
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.all_tied_weights_keys.pop("lm_head.weight", None)
    model.save_pretrained(tmp_path)
    model = load_pretrained(tmp_path)
    assert not torch.equal(model.lm_head.weight, model.shared.weight)
    batch = tiny_batch(tiny_model("mt5", vocab_size=ROWS))
    before = logits(model, batch)[..., :ROWS]
    drop_padding_rows(model, ROWS, ROWS, "it")
    assert torch.equal(logits(model, batch), before)
    model.save_pretrained(tmp_path / "cut")
    assert torch.equal(logits(load_pretrained(tmp_path / "cut"), batch), before)


@pytest.mark.parametrize(("model_type", "kept"), [(kind, name) for kind, names in TIED.items() for name in names])
def test_any_name_of_a_tied_weight_is_enough(model_type, kept, tmp_path):
    """Tools save tied embeddings under one name, and not all under the same."""
    if (model_type, kept) == ("mt5", "lm_head.weight"):
        pytest.skip("mT5's head is another matrix")
    model = tiny_model(model_type)
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    [name] = set(weights).intersection(TIED[model_type]) - ({"lm_head.weight"} if model_type == "mt5" else set())
    weights[kept] = weights.pop(name)
    save_file(weights, file, {"format": "pt"})
    loaded = load_pretrained(tmp_path)
    for name in TIED[model_type]:
        assert torch.equal(loaded.get_parameter(name), model.get_parameter(name)), name
