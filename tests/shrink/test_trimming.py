"""A model with a trimmed vocabulary is the whole model whose other tokens have no probability."""

import copy

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer
from seq2seq_distill.models import architectures, forward
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.shrink.lost_mass import lost_mass
from seq2seq_distill.shrink.trimming import SIDES, ParallelTexts, trim_vocabulary
from seq2seq_distill.shrink.vocabulary_rows import take_rows
from seq2seq_distill.utils.errors import ModelError
from tests.shrink.kinds import KINDS
from tests.tiny_models import families, tiny_model, untie_head
from tests.tiny_runs import save_teacher
from tests.tiny_tokenizers import SOURCES, TARGETS

FEW = ParallelTexts(SOURCES[:4], TARGETS[:4])
LANGUAGES = {"m2m_100": ("eng_Latn", "deu_Latn"), "mbart": ("en_XX", "de_DE")}
SUPPORTED = families("fsmt", "prophetnet")


def whole(folder, model_type, **overrides):
    """A model in float64 and its tokenizer."""
    save_teacher(folder, model_type, **overrides)
    model = load_pretrained(folder, torch.float64)
    return model, load_tokenizer(folder, *LANGUAGES.get(model_type, (None, None)))


def inputs_of(trimmed, rows=8, width=6, seed=0):
    """Random tokens of both sides, by their new and by their old ids."""
    generator = torch.Generator().manual_seed(seed)
    new = {side: torch.randint(len(trimmed.rows[side]), (rows, width), generator=generator) for side in SIDES}
    return new, {side: torch.tensor(trimmed.rows[side])[ids] for side, ids in new.items()}


def extras(model, input_ids):
    names = architectures.extra_inputs(model.config)
    return {name: torch.zeros_like(input_ids).index_fill_(1, torch.tensor([0]), 1) for name in names}


@SUPPORTED
@torch.no_grad()
def test_logits_and_greedy_outputs_are_those_of_the_kept_rows(model_type, tmp_path):
    model, tokenizer = whole(tmp_path / "whole", model_type)
    trimmed = trim_vocabulary(model, tokenizer, FEW, coverage=0.9)
    target = torch.tensor(trimmed.rows["target"])
    assert forward.output_head(trimmed.model).weight.shape[0] == len(target) == len(trimmed.tokenizer)
    trimmed.model.save_pretrained(tmp_path / "trimmed")
    trimmed.tokenizer.save_pretrained(tmp_path / "trimmed")
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "trimmed", dtype=torch.float64).eval()
    assert len(AutoTokenizer.from_pretrained(tmp_path / "trimmed")) == len(target)
    new, old = inputs_of(trimmed, rows=64)
    expected = model(input_ids=old["source"], decoder_input_ids=old["target"], **extras(model, old["source"])).logits
    for each in (trimmed.model, loaded):
        logits = each(input_ids=new["source"], decoder_input_ids=new["target"], **extras(model, new["source"])).logits
        torch.testing.assert_close(logits, expected[..., target], rtol=1e-6, atol=1e-6)
    single = [
        each.float()(input_ids=ids["source"], decoder_input_ids=ids["target"], **extras(model, ids["source"])).logits
        for each, ids in ((copy.deepcopy(trimmed.model), new), (copy.deepcopy(model), old))
    ]
    torch.testing.assert_close(single[0], single[1][..., target], rtol=1e-5, atol=1e-5)
    removed = sorted(set(range(expected.shape[-1])) - set(trimmed.rows["target"]))
    settings = {"do_sample": False, "num_beams": 1, "max_new_tokens": 5}
    suppressed = model.generate(old["source"], suppress_tokens=removed or None, **settings)
    torch.testing.assert_close(target[loaded.generate(new["source"], **settings)], suppressed)


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_every_kind_of_tokenizer_goes_with_its_model(name, tmp_path):
    """Texts to texts: sources whose pieces are kept give the outputs of the whole model."""
    model_type, make = KINDS[name]
    (tmp_path / "pieces").mkdir()
    tokenizer = make(tmp_path / "pieces")
    special = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("pad", "eos")}
    languages = getattr(tokenizer, "lang_token_to_id", {"": 0})
    sizes = {"vocab_size": max(len(tokenizer), *languages.values(), 0) + 1}
    if model_type == "marian":
        targets = getattr(tokenizer, "target_encoder", None)
        special["bos_token_id"] = special["forced_eos_token_id"] = special["eos_token_id"]
        sizes = {"vocab_size": len(tokenizer.encoder), "decoder_vocab_size": len(targets or tokenizer.encoder)}
        sizes["share_encoder_decoder_embeddings"] = targets is None
    start = special["pad_token_id" if model_type in ("t5", "marian", "pegasus") else "eos_token_id"]
    model = tiny_model(model_type, **sizes, **special, decoder_start_token_id=start).double()
    trimmed = trim_vocabulary(model, tokenizer, ParallelTexts(SOURCES, TARGETS), coverage=1.0, held_out=FEW)
    before, after = (tok(SOURCES, padding=True, return_tensors="pt") for tok in (tokenizer, trimmed.tokenizer))
    assert torch.tensor(trimmed.rows["source"])[after["input_ids"]].equal(before["input_ids"])
    for side in SIDES:
        assert trimmed.report["held_out"][side] == {"coverage": 1.0, "length_growth": 1.0}
    removed = sorted(set(range(len(forward.output_head(model).weight))) - set(trimmed.rows["target"]))
    settings = {"do_sample": False, "num_beams": 1, "max_new_tokens": 4}
    fields = {
        side: {"input_ids": each["input_ids"], "attention_mask": each["attention_mask"]}
        for side, each in (("before", before), ("after", after))
    }
    expected = model.generate(**fields["before"], suppress_tokens=removed or None, **settings)
    outputs = trimmed.model.generate(**fields["after"], **settings)
    assert torch.tensor(trimmed.rows["target"])[outputs].equal(expected)
    assert trimmed.tokenizer.batch_decode(outputs, skip_special_tokens=True) == tokenizer.batch_decode(
        expected, skip_special_tokens=True
    )


@torch.no_grad()
def test_a_shared_marian_vocabulary_becomes_two(tmp_path):
    model, tokenizer = whole(tmp_path / "whole", "marian")
    trimmed = trim_vocabulary(model, tokenizer, FEW, coverage=1.0, separate=True)
    sizes = trimmed.report["vocabulary"]["after"]
    assert sizes["source"] != sizes["target"]
    trimmed.model.save_pretrained(tmp_path / "trimmed")
    trimmed.tokenizer.save_pretrained(tmp_path / "trimmed")
    loaded, tok = load_pretrained(tmp_path / "trimmed", torch.float64), load_tokenizer(tmp_path / "trimmed", None, None)
    assert (loaded.config.vocab_size, loaded.config.decoder_vocab_size) == (sizes["source"], sizes["target"])
    assert loaded.get_output_embeddings().weight is loaded.get_decoder().embed_tokens.weight
    new, old = inputs_of(trimmed)
    logits = loaded(input_ids=new["source"], decoder_input_ids=new["target"]).logits
    expected = model(input_ids=old["source"], decoder_input_ids=old["target"]).logits
    torch.testing.assert_close(logits, expected[..., trimmed.rows["target"]], rtol=1e-6, atol=1e-6)
    for side, texts in (("text", FEW.source), ("text_target", FEW.target)):
        rows = trimmed.rows["source" if side == "text" else "target"]
        before, after = (each(**{side: list(texts)})["input_ids"] for each in (tokenizer, tok))
        kept = [row for row in before if set(row) <= set(rows)]
        assert kept and all(row in [[rows[n] for n in line] for line in after] for row in kept)
    assert tok.target_encoder[tok.pad_token] == tok.encoder[tok.pad_token] == loaded.config.pad_token_id


class TestRows:
    def test_what_is_tied_stays_tied_and_what_is_not_does_not(self):
        tied, untied = tiny_model("t5"), untie_head(tiny_model("t5"))
        rows = [*range(3), 9, 7, 40]
        for model, same in ((tied, True), (untied, False)):
            cut = take_rows(model, rows, rows)
            assert (cut.lm_head.weight is cut.shared.weight) is same
            assert cut.encoder.embed_tokens.weight is cut.decoder.embed_tokens.weight
            assert cut.lm_head.weight.equal(model.lm_head.weight[rows])
            assert cut.lm_head.out_features == cut.shared.num_embeddings == cut.config.vocab_size == len(rows)

    def test_all_ids_in_the_configs_are_the_new_ones(self):
        model = tiny_model("marian")  # eos 0, pad 63
        model.generation_config.bad_words_ids = [[63], [7, 9]]
        model.generation_config.suppress_tokens = [9, 40]
        model.config.task_specific_params = {"translation": {"forced_bos_token_id": 7}}
        rows = [0, 1, 63, 7, 9, 40]
        cut = take_rows(model, rows, rows)
        assert (cut.config.eos_token_id, cut.config.pad_token_id, cut.config.decoder_start_token_id) == (0, 2, 2)
        assert cut.generation_config.bad_words_ids == [[2], [3, 4]]
        assert cut.generation_config.suppress_tokens == [4, 5]
        assert cut.config.task_specific_params == {"translation": {"forced_bos_token_id": 3}}
        assert cut.model.encoder.embed_tokens.padding_idx == 2
        assert model.generation_config.bad_words_ids == [[63], [7, 9]]  # left as it was
        assert cut.final_logits_bias.equal(model.final_logits_bias[:, rows])
        assert cut.config.trimmed_vocabulary == [64, 64]

    def test_a_decoder_must_keep_its_start(self):
        with pytest.raises(ModelError, match="its decoder starts with id 63"):
            take_rows(tiny_model("marian"), [0, 1, 2], [0, 1, 2])

    @torch.no_grad()
    def test_lost_mass_is_that_of_the_other_tokens(self, tmp_path):
        model, tokenizer = whole(tmp_path, "t5")
        encoders = vocabulary_encoders(tokenizer)
        every = range(len(forward.output_head(model).weight))
        parts = [
            lost_mass(model, tokenizer, encoders, SOURCES, TARGETS, rows) for rows in (every, every[:20], every[20:])
        ]
        assert parts[0] == pytest.approx(0, abs=1e-9)
        assert parts[1] + parts[2] == pytest.approx(1)
        batch = tokenizer(SOURCES[:1], return_tensors="pt")
        labels = tokenizer(TARGETS[:1], return_tensors="pt")["input_ids"]
        expected = model(input_ids=batch["input_ids"], labels=labels).logits.softmax(-1)[..., 20:].sum(-1).mean()
        assert lost_mass(model, tokenizer, encoders, SOURCES[:1], TARGETS[:1], every[:20]) == pytest.approx(
            float(expected)
        )


def vocabulary_encoders(tokenizer):
    return {"source": TextEncoder(tokenizer), "target": TextEncoder(tokenizer, "text_target")}
