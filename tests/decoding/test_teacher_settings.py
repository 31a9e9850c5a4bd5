"""Generation settings that models come with, and that no student should have."""

import logging
from types import SimpleNamespace

import pytest
from transformers import GenerationConfig

from seq2seq_distill.decoding import generation
from seq2seq_distill.decoding.conversion import not_held
from seq2seq_distill.decoding.generation import GenerationSettings, configure_generation, with_settings
from seq2seq_distill.shrink.student import create_student
from seq2seq_distill.utils.errors import ConfigError
from tests.tiny_models import tiny_model

PLAIN = {"decoder_start_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}


@pytest.fixture(autouse=True)
def unlogged():
    """What was logged by another test is logged again."""
    generation._warn_of_dropped.cache_clear()
    generation._log_imposed.cache_clear()


class TestDropped:
    @pytest.mark.parametrize(
        "settings",
        [
            {"use_cache": False},
            {"do_sample": True, "temperature": 1.5},
            {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
            {"penalty_alpha": 0.6, "top_k": 4},
            {"force_words_ids": [[5]], "num_beams": 4},
            {"dola_layers": "high"},
            {"prompt_lookup_num_tokens": 3},
        ],
        ids=lambda settings: next(iter(settings)),
    )
    def test_is_named_once_and_leaves_plain_search(self, settings, caplog):
        """Once a traceback, outputs that differed from call to call, or seconds for milliseconds."""
        own = GenerationConfig(**PLAIN, **settings)
        with caplog.at_level(logging.WARNING):
            found = [with_settings(own, GenerationSettings(max_length=9), None) for _ in range(2)]
        assert found[0].use_cache is True and found[0].do_sample is False
        assert found[0].get_generation_mode() in ("greedy_search", "beam_search")
        name = next(name for name in settings if name not in ("num_beams", "temperature", "top_k"))
        assert caplog.text.count(name) == 1

    def test_draws_that_are_asked_for_stay(self):
        own = GenerationConfig(**PLAIN, do_sample=True)
        assert with_settings(own, GenerationSettings(options={"do_sample": True}), None).do_sample is True

    @pytest.mark.parametrize("option", [{"penalty_alpha": 0.6, "top_k": 4}, {"num_beam_groups": 2}])
    def test_searches_that_are_not_there_are_refused_as_options(self, option):
        """Contrastive search was greedy search, without a word."""
        with pytest.raises(ConfigError, match=f"`eval.generate` {next(iter(option))}=.* a search that transformers"):
            with_settings(GenerationConfig(**PLAIN), GenerationSettings(options=option), None)

    def test_a_student_does_not_inherit_decoding_without_a_cache(self):
        teacher = tiny_model("bart")
        teacher.config.use_cache = False
        assert create_student(teacher, 1, 1).config.use_cache is True
        assert teacher.config.use_cache is False


class TestImposed:
    def apply(self, own, params, **settings):
        model = SimpleNamespace(generation_config=GenerationConfig(**PLAIN, **own), config=SimpleNamespace())
        configure_generation(model, GenerationSettings(max_length=30, **settings), params)
        return model.generation_config

    def test_what_a_task_sets_is_logged(self, caplog):
        """A BART that was fine-tuned for titles wrote 12 tokens and more, by a setting that nobody heard of."""
        with caplog.at_level(logging.INFO):
            found = self.apply({"min_length": 0}, {"min_length": 12, "num_beams": 4, "prefix": "x", "max_length": 142})
        assert (found.min_length, found.num_beams) == (12, 4)
        assert "set min_length 12 (generation_config.json: 0), num_beams 4 for this task" in caplog.text

    def test_what_options_decide_is_not(self, caplog):
        with caplog.at_level(logging.INFO):
            self.apply({}, {"num_beams": 4, "length_penalty": 2.0}, beams=2, length_penalty=1.0)
        assert "task_specific_params" not in caplog.text


class TestNotHeld:
    def test_what_ctranslate2_lacks_is_named(self):
        lacking = {"exponential_decay_length_penalty": (5, 1.1), "encoder_no_repeat_ngram_size": 3}
        held = {"suppress_tokens": [5], "bad_words_ids": [[6]], "no_repeat_ngram_size": 3, "num_beams": 4}
        assert not_held(GenerationConfig(**PLAIN, **lacking, **held)) == lacking

    def test_plain_settings_are_held(self):
        own = GenerationConfig(**PLAIN, num_beams=4, length_penalty=0.6, early_stopping=True, min_length=3)
        assert not_held(with_settings(own, GenerationSettings(max_length=20), None)) == {}
