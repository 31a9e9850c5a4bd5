"""Decoding a split."""

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerFast

from seq2seq_distill.decoding.generation import (
    GenerationSettings,
    generate_batch,
    generated_length,
    generation_config,
)
from seq2seq_distill.utils.errors import ConfigError, ModelError

SIZES = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 40,
}
EXTRAS: dict[str, dict[str, Any]] = {
    "bart": SIZES,
    "m2m_100": SIZES,
    "marian": SIZES | {"pad_token_id": 63, "eos_token_id": 0, "forced_eos_token_id": 0, "decoder_start_token_id": 63},
    "t5": {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_heads": 2,
        "num_layers": 2,
        "decoder_start_token_id": 0,
    },
}


def tiny(family: str, **extra: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=64, **EXTRAS[family] | extra)
    model = AutoModelForSeq2SeqLM.from_config(config)
    for parameter in model.parameters():  # fresh weights are so small that a model says one word for ever
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter)
    # Where it is the start token of a tied model, padding would be all that it ever says.
    model.generation_config.suppress_tokens = [config.pad_token_id]
    return model.eval()


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)
    ids = [row["input_ids"] + [5] * (width - len(row["input_ids"])) for row in rows]
    mask = [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows]
    # labels, row and counts travel with every batch of the data module
    rest = {"labels": torch.zeros(len(rows), 3, dtype=torch.long), "row": torch.arange(len(rows))}
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), **rest}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{i}": i for i in range(64)}
    backend = Tokenizer(WordLevel(words, unk_token="w3"))
    backend.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="w2", pad_token="w1", bos_token="w0")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(0)
    lengths = [3, 17, 5, 11, 4, 9, 20, 6, 13]
    return [{"input_ids": torch.randint(4, 64, (n,), generator=generator).tolist()} for n in lengths]


class TestGenerationConfig:
    def test_none_means_what_the_model_says(self) -> None:
        model = tiny("bart")
        model.generation_config.num_beams = 4
        model.generation_config.length_penalty = 2.0
        model.generation_config.early_stopping = True
        config = generation_config(model, GenerationSettings())
        assert (config.num_beams, config.length_penalty, config.early_stopping) == (4, 2.0, True)

    def test_flags_win_over_the_model(self) -> None:
        """H13: a length penalty that was asked for is not overwritten by the teacher's."""
        model = tiny("bart")
        model.generation_config.num_beams = 4
        model.generation_config.length_penalty = 2.0
        settings = GenerationSettings(beams=2, length_penalty=0.5, forced_bos_token_id=9)
        config = generation_config(model, settings)
        assert (config.num_beams, config.length_penalty, config.forced_bos_token_id) == (2, 0.5, 9)

    def test_the_model_keeps_its_own(self) -> None:
        model = tiny("bart")
        before = model.generation_config.to_dict()
        config = generation_config(model, GenerationSettings(beams=3, options={"no_repeat_ngram_size": 3}))
        assert config.no_repeat_ngram_size == 3
        generate_batch(model, collate([{"input_ids": [4, 5]}]), config)
        assert model.generation_config.to_dict() == before

    def test_greedy_search_drops_what_only_beams_use(self) -> None:
        model = tiny("bart")
        model.generation_config.early_stopping = True
        model.generation_config.length_penalty = 2.0
        config = generation_config(model, GenerationSettings(beams=1))
        assert (config.early_stopping, config.length_penalty) == (False, 1.0)

    def test_sampling_is_asked_for_or_off(self) -> None:
        model = tiny("bart")
        model.generation_config.do_sample, model.generation_config.top_k = True, 5
        config = generation_config(model, GenerationSettings(options={"do_sample": False}))
        assert config.do_sample is False and config.top_k is None
        config = generation_config(model, GenerationSettings(options={"do_sample": True, "top_k": 7}))
        assert config.do_sample is True and config.top_k == 7

    @pytest.mark.parametrize(
        ("own", "largest"),
        [({"max_length": 128}, 5), ({"max_length": 3}, 5), ({"max_new_tokens": 60}, 5)]
        + [({"max_length": 90, "max_new_tokens": 3}, 5), ({"max_length": 90, "min_length": 56}, 5)]
        + [({"max_length": 90, "min_new_tokens": 56}, 5), ({}, 5)],
    )
    def test_the_length_counts_new_tokens_whatever_the_model_says(
        self, own: dict[str, int], largest: int, recwarn: pytest.WarningsRecorder
    ) -> None:
        model = tiny("bart", forced_eos_token_id=None)
        for name, value in own.items():
            setattr(model.generation_config, name, value)
        model.generation_config.suppress_tokens = [2]  # nothing ends before its time
        config = generation_config(model, GenerationSettings(max_length=largest))
        outputs = generate_batch(model, collate([{"input_ids": [4, 5, 6]}]), config)
        assert [len(ids) for ids in outputs] == [largest]
        assert not [w for w in recwarn if "length" in str(w.message)]

    def test_a_minimum_that_does_not_fit_still_leaves_room_for_the_end(self, caplog: pytest.LogCaptureFixture) -> None:
        model = tiny("bart")
        model.generation_config.min_length = 56
        with caplog.at_level(logging.WARNING):
            config = generation_config(model, GenerationSettings(max_length=6))
        assert "minimum of 55 tokens is above `eval.max_target_length` 6" in caplog.text
        ids = generate_batch(model, collate([{"input_ids": [4, 5, 6]}]), config)[0]
        assert len(ids) == 6 and ids[-1] == 2

    def test_no_longer_than_the_model_has_positions(self) -> None:
        model = tiny("marian")
        model.generation_config.suppress_tokens = [0]
        model.generation_config.forced_eos_token_id = None
        config = generation_config(model, GenerationSettings(max_length=142, beams=2))
        assert len(generate_batch(model, collate([{"input_ids": [4, 5, 6]}]), config)[0]) == 40

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"no_repeat_ngrams": 3}, "`eval.generate` no_repeat_ngrams=3"),
            ({"num_return_sequences": 2}, "`eval.generate` num_return_sequences=2"),
            ({"update": 2}, "`eval.generate` update=2"),
            ({"num_beams": 2}, "use `eval.beams`"),
            ({"max_length": 2}, "use `eval.max_target_length`"),
            ({"forced_bos_token_id": 2}, "use `tgt_lang`"),
            ({"early_stopping": "maybe"}, "`eval.generate` .*early_stopping"),
            ({"watermarking_config": {"a": 1}}, "`eval.generate` .*watermarking_config.*choose another value"),
            ({"min_length": "x"}, "`eval.generate` min_length=x: choose a whole number, 0 or more"),
            ({"min_new_tokens": 1.5}, "`eval.generate` min_new_tokens=1.5: choose a whole number"),
            ({"no_repeat_ngram_size": -1}, "`eval.generate` no_repeat_ngram_size=-1: choose a whole number"),
            ({"repetition_penalty": 0}, "`eval.generate` repetition_penalty=0: choose a number above 0"),
        ],
    )
    def test_mistakes_are_named(self, options: dict[str, Any], message: str) -> None:
        settings = GenerationSettings(beams=2, options=options)
        with pytest.raises(ConfigError, match=message):
            generation_config(tiny("bart"), settings)
        with pytest.raises(ConfigError, match=message.replace("`eval.", "`")):
            generation_config(tiny("bart"), replace(settings, group=""))

    def test_null_turns_off_what_the_model_has(self) -> None:
        model = tiny("bart")
        model.generation_config.no_repeat_ngram_size = 3
        config = generation_config(model, GenerationSettings(options={"no_repeat_ngram_size": None}))
        assert config.no_repeat_ngram_size is None

    def test_a_model_without_a_start_token_is_refused(self) -> None:
        model = tiny("t5", decoder_start_token_id=None)
        with pytest.raises(ModelError, match="decoder_start_token_id"):
            generation_config(model, GenerationSettings())


class TestGenerateBatch:
    @pytest.mark.parametrize("family", EXTRAS)
    @pytest.mark.parametrize("beams", [1, 3])
    def test_is_what_generate_gives_less_start_and_padding(
        self, family: str, beams: int, rows: list[dict[str, Any]]
    ) -> None:
        model = tiny(family)
        batch = collate(rows)
        config = generation_config(model, GenerationSettings(beams=beams, max_length=12))
        plain = model.generate(  # type: ignore[operator]
            batch["input_ids"], attention_mask=batch["attention_mask"], generation_config=config
        )
        got = generate_batch(model, batch, config)
        end, pad = config.eos_token_id, config.pad_token_id
        for ids, full in zip(got, plain.tolist(), strict=True):
            assert full[0] == config.decoder_start_token_id
            assert full[1 : len(ids) + 1] == ids
            assert set(full[len(ids) + 1 :]) <= {pad}
            assert end not in ids[:-1]

    def test_a_forced_language_comes_first_and_is_not_counted(self, rows: list[dict[str, Any]]) -> None:
        """H32: multilingual outputs start with the target language."""
        model = tiny("m2m_100")
        config = generation_config(model, GenerationSettings(forced_bos_token_id=11, max_length=8))
        for ids in generate_batch(model, collate(rows), config):
            assert ids[0] == 11
            assert generated_length(ids, config) == len(ids) - 1

    def test_transformers_has_nothing_to_say_about_a_batch(
        self, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
    ) -> None:
        model = tiny("bart")
        own = model.generation_config
        own.max_new_tokens, own.max_length, own.min_length, own.min_new_tokens = 9, 9, 3, 3
        own.early_stopping, own.length_penalty, own.top_k, own.temperature = True, 2.0, 9, 0.5
        config = generation_config(model, GenerationSettings(beams=1, max_length=5))
        logging.getLogger("transformers").addHandler(caplog.handler)
        try:
            generate_batch(model, collate([{"input_ids": [4, 5]}, {"input_ids": [6]}]), config)
        finally:
            logging.getLogger("transformers").removeHandler(caplog.handler)
        assert not caplog.records and not recwarn.list
