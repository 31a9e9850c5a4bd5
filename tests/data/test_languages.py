"""Languages as people write them, and as tokenizers know them."""

import json
import logging

import pytest
from transformers import MarianConfig, T5Config

from seq2seq_distill.data.languages import (
    base_language,
    forced_bos_token_id,
    is_same_language,
    language_codes,
    match_language,
    plain_code,
    target_prefix,
    target_tokens,
)
from seq2seq_distill.data.tokenization.prefixes import default_prefix
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer
from seq2seq_distill.utils.errors import ConfigError, ModelError
from tests.tiny_tokenizers import m2m100_tokenizer, marian_tokenizer, mbart_tokenizer, nllb_tokenizer, t5_tokenizer

FORMS = {"__de__": "de", "__deu_Latn__": "deu_Latn", ">>deu<<": "deu", "<2de>": "de", "<2pt_BR>": "pt_BR"}


@pytest.mark.parametrize(("form", "code"), [*FORMS.items(), ("de_DE", "de_DE"), ("zh-Hans", "zh-Hans")])
def test_plain_code(form, code):
    assert plain_code(form) == code
    assert base_language(form) == base_language(code)


@pytest.mark.parametrize(
    ("code", "other", "is_same"),
    [
        ("de", "deu_Latn", True),
        ("de_DE", "__de__", True),
        ("deu_Latn", "eng_Latn", False),
        ("zho_Hans", "zho_Hant", False),
        ("zho_Hans", "zh", True),
        ("en", "de", False),
    ],
)
def test_is_same_language(code, other, is_same):
    assert is_same_language(code, other) is is_same_language(other, code) is is_same


def test_match_language_is_exact_or_unique():
    assert match_language("deu", ["deu", "nld"]) == match_language("de_DE", ["deu", "nld"]) == "deu"
    assert match_language("zh", ["cmn_Hans", "cmn_Hant"]) is None
    assert match_language("cmn_Hant", ["cmn_Hans", "cmn_Hant"]) == "cmn_Hant"


class TestTokenForms:
    """Once `__de__` was a KeyError, and `__deu_Latn__` was taken and ignored."""

    def test_m2m100(self, tmp_path):
        m2m100_tokenizer(tmp_path).save_pretrained(tmp_path / "saved")
        loaded = load_tokenizer(tmp_path / "saved", "__en__", "__de__")
        assert (loaded.src_lang, loaded.tgt_lang) == ("en", "de")
        assert forced_bos_token_id(loaded, "__de__") == loaded.get_lang_id("de")

    def test_nllb(self, tmp_path):
        nllb_tokenizer().save_pretrained(tmp_path)
        loaded = load_tokenizer(tmp_path, "__fra_Latn__", "deu_Latn")
        assert loaded.src_lang == "fra_Latn"
        assert forced_bos_token_id(loaded, "__deu_Latn__") == loaded.convert_tokens_to_ids("deu_Latn")


class TestAddedLanguages:
    @pytest.mark.parametrize(("make", "code"), [(nllb_tokenizer, "tyv_Cyrl"), (mbart_tokenizer, "tyv_RU")])
    def test_are_known_and_forced(self, make, code, tmp_path):
        tokenizer = make()
        tokenizer.add_tokens([code], special_tokens=True)
        tokenizer.save_pretrained(tmp_path)
        given = tokenizer.src_lang
        loaded = load_tokenizer(tmp_path, given, code)
        assert code in language_codes(loaded)
        token = loaded.convert_tokens_to_ids(code)
        labels = loaded(text_target="a")["input_ids"]
        assert token in labels and token != loaded.unk_token_id
        assert loaded.decode(labels, skip_special_tokens=True) == "a"

    def test_of_m2m100_are_refused_with_those_that_exist(self, tmp_path):
        tokenizer = m2m100_tokenizer(tmp_path)
        tokenizer.add_tokens(["__tyv__"], special_tokens=True)
        tokenizer.save_pretrained(tmp_path / "saved")
        with pytest.raises(ConfigError, match="`tgt_lang` tyv: .* does not know this language: choose one of af, "):
            load_tokenizer(tmp_path / "saved", "en", "tyv")


class TestLostClass:
    """A tokenizer saved under a general class puts no language into texts, and nobody hears of it."""

    def save(self, tokenizer, folder, model_type):
        tokenizer.save_pretrained(folder)
        config = folder / "tokenizer_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}))
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))

    @pytest.mark.parametrize(
        ("make", "model_type"), [(nllb_tokenizer, "m2m_100"), (mbart_tokenizer, "mbart")], ids=["nllb", "mbart"]
    )
    def test_is_refused_by_name(self, make, model_type, tmp_path):
        self.save(make(), tmp_path, model_type)
        with pytest.raises(ModelError, match="puts none of them into texts: set the tokenizer_class"):
            load_tokenizer(tmp_path, None, None)

    def test_of_models_without_languages_is_usual(self, tmp_path):
        self.save(nllb_tokenizer(), tmp_path, "t5")
        assert load_tokenizer(tmp_path, "en", "de")("a")["input_ids"]


class TestTargetTokens:
    """OPUS-MT models of several target languages read `>>deu<<` first, MADLAD-400 `<2de>`."""

    @pytest.fixture(params=["marian", "t5"])
    def model(self, request, tmp_path):
        tokens = {"marian": [">>deu<<", ">>nld<<"], "t5": ["<2de>", "<2nl>"]}[request.param]
        tokenizer = {"marian": marian_tokenizer, "t5": t5_tokenizer}[request.param](tmp_path)
        tokenizer.add_tokens(tokens)
        config = {"marian": MarianConfig(), "t5": T5Config()}[request.param]
        return tokenizer, config, tokens

    @pytest.mark.parametrize("code", ["deu", "de", "de_DE", ">>deu<<", "<2de>"])
    def test_the_target_language_gives_the_prefix(self, model, code):
        tokenizer, config, tokens = model
        assert set(target_tokens(tokenizer, config.model_type).values()) == set(tokens)
        assert default_prefix(config, "translation", None, ("en", code), tokenizer) == f"{tokens[0]} "
        assert default_prefix(config, "translation", "x", ("en", code), tokenizer) == "x"

    def test_another_language_is_refused_with_those_that_exist(self, model):
        tokenizer, config, _ = model
        with pytest.raises(ConfigError, match="`tgt_lang` fr: the model has no token .* choose one of de"):
            default_prefix(config, "translation", None, ("en", "fr"), tokenizer)

    def test_without_a_language_the_remedy_is_logged_once(self, model, caplog):
        tokenizer, config, tokens = model
        tokenizer.add_tokens([tokens[0].replace("d", "q")])  # not the tokens of another test, which logged them
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert default_prefix(config, "translation", None, (None, None), tokenizer) == ""
        assert caplog.text.count("set `tgt_lang` or the prefix") == 1 and tokens[1] in caplog.text

    def test_other_models_have_none(self, tmp_path):
        assert target_tokens(nllb_tokenizer(), "m2m_100") == target_tokens(marian_tokenizer(tmp_path), "marian") == {}
        with pytest.raises(ConfigError, match="no token for this language"):
            target_prefix({"a": ">>a<<"}, "deu")
