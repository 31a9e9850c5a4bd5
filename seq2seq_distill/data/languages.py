"""Language codes in all their spellings, and the tokens by which models are told a language."""

import re
from collections.abc import Collection, Mapping

from babel.core import Locale, get_global
from transformers import GenerationConfig, PreTrainedTokenizerBase

from seq2seq_distill.utils.errors import ConfigError

TARGET_TOKEN = re.compile(r">>[^<>\s]+<<|<2[^<>\s]+>")
"""Opens a source of a model that writes several languages, and says which: of OPUS-MT (Marian) and MADLAD-400 (T5)."""
_OPENS = {"marian": ">>", "t5": "<2", "mt5": "<2"}
_LANGUAGE_TOKEN = re.compile(r"_*[a-z]{2,3}(_[A-Za-z]{2,4})?_*")
_TOKEN_FORMS = re.compile(r">>(?P<marian>[^<>\s]+)<<|<2(?P<t5>[^<>\s]+)>|__(?P<m2m100>\w+?)__")


def plain_code(code: str) -> str:
    """A code without what makes a token of it: "de" for "__de__", "deu" for ">>deu<<" and "<2deu>"."""
    match = _TOKEN_FORMS.fullmatch(code)
    return str(match[match.lastgroup]) if match and match.lastgroup else code


def base_language(code: str) -> str:
    """The two-letter language (ISO 639) of a code such as "en_XX", "eng_Latn", "pt-BR" or ">>deu<<".

    A code that is not known keeps what stands before its first "_" or "-".
    """
    head = re.split(r"[_-]", plain_code(code).strip("_"))[0].lower()
    return get_global("language_aliases").get(head, head)


def is_same_language(code: str, other: str) -> bool:
    """Whether two codes name one language: "de" is "deu_Latn", and "zho_Hans" is not "zho_Hant"."""
    first, second = plain_code(code), plain_code(other)
    is_precise = "_" in first and "_" in second and len(first) == len(second)
    return first == second if is_precise else base_language(first) == base_language(second)


def language_name(code: str) -> str:
    """The English name of a language: "German" for "de", "deu_Latn" or "__de__", "Brazilian Portuguese" for "pt-BR".

    What is no known code is taken to be a name.
    """
    names = Locale("en").languages
    base, *more = (base_language(code), *re.split(r"[_-]", plain_code(code).strip("_"))[1:])
    return str(names.get("_".join([base, *more])) or names.get(base) or code)


def match_language(code: str, keys: Collection[str]) -> str | None:
    """The key of a language: the code itself, or else the only key with the same two-letter language."""
    if code in keys:
        return code
    alike = [key for key in keys if base_language(key) == base_language(code)]
    return alike[0] if len(alike) == 1 else None


def some_languages(codes: Collection[str], wanted: str = "") -> str:
    """A few codes to choose from, for a message: those of the language `wanted` first."""
    ranked = sorted(codes, key=lambda code: (base_language(code) != base_language(wanted), code))
    return "one of " + ", ".join(ranked[:6]) + (", ..." if len(ranked) > 6 else "")


def language_codes(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Codes that `src_lang` and `tgt_lang` of a multilingual tokenizer can take; empty for any other.

    A language that was added with `add_tokens(["tyv_Cyrl"], special_tokens=True)` is one of them, where the tokenizer
    finds languages by their tokens (NLLB, the first mBART); those of M2M100, mBART-50 and PLBart have fixed lists.
    """
    if not hasattr(tokenizer, "set_tgt_lang_special_tokens"):
        return []
    codes = set(getattr(tokenizer, "lang_code_to_id", ()))
    if not codes or not any(hasattr(tokenizer, name) for name in ("get_lang_id", "cur_lang_code_id")):
        codes |= set(language_tokens(tokenizer))
    return sorted({code.strip("_") for code in codes})


def language_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Special tokens that look like languages, in order of their ids."""
    return [token for token in special_tokens(tokenizer) if _LANGUAGE_TOKEN.fullmatch(token)]


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """All special tokens, those included that were added and that the tokenizer does not list as such."""
    added = [str(token) for _, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special]
    return list(dict.fromkeys([*tokenizer.all_special_tokens, *added]))


def forced_bos_token_id(
    tokenizer: PreTrainedTokenizerBase, tgt_lang: str | None, generation_config: GenerationConfig | None = None
) -> int | None:
    """Id of the token that decoding must begin with, after the decoder's start token; None for any.

    It is the target language's where labels begin with that (M2M100, NLLB, mBART-50), and else what the
    model's generation config asks for. The first mBART and PLBart end the labels with the language and start
    the decoder with it: see `decoder_start_token_id`. `tgt_lang` None means the tokenizer's own.
    """
    language = _language_id(tokenizer, tgt_lang)
    if language is not None and _labels_begin_with_language(tokenizer):
        return language
    return getattr(generation_config, "forced_bos_token_id", None)


def decoder_start_token_id(tokenizer: PreTrainedTokenizerBase, tgt_lang: str | None) -> int | None:
    """Id of the target language where the decoder starts with it (the first mBART, PLBart), else None."""
    language = _language_id(tokenizer, tgt_lang)
    return None if language is None or _labels_begin_with_language(tokenizer) else language


def _language_id(tokenizer: PreTrainedTokenizerBase, tgt_lang: str | None) -> int | None:
    known = language_codes(tokenizer)
    language = tgt_lang or getattr(tokenizer, "tgt_lang", None)
    if not known or language is None:
        return None
    code = plain_code(language)
    if code not in known:
        choice = some_languages(known, code)
        raise ConfigError(f"`tgt_lang` {language}: the tokenizer does not know this language: choose {choice}")
    if hasattr(tokenizer, "get_lang_id"):
        return int(tokenizer.get_lang_id(code))
    vocab = tokenizer.get_vocab()
    return vocab.get(code, vocab.get(f"__{code}__"))


def _labels_begin_with_language(tokenizer: PreTrainedTokenizerBase) -> bool:
    if tokenizer.tgt_lang is None:
        return True
    return tokenizer(text_target="")["input_ids"][0] != tokenizer.eos_token_id


def target_tokens(tokenizer: PreTrainedTokenizerBase, model_type: str) -> dict[str, str]:
    """By language code, the tokens that a model of several target languages reads at the start of a source.

    Empty for all models but those of Marian and T5 that have such tokens (">>deu<<", "<2de>").
    """
    opens = _OPENS.get(model_type)
    tokens = [token for token in tokenizer.get_vocab() if token.startswith(opens)] if opens else []
    return {plain_code(token): token for token in sorted(tokens) if TARGET_TOKEN.fullmatch(token)}


def target_prefix(tokens: Mapping[str, str], tgt_lang: str) -> str:
    """The prefix that asks for a language, of the `target_tokens` of a model.

    Raises:
        ConfigError: no token is that of the language, or several are.
    """
    code = match_language(plain_code(tgt_lang), tokens)
    if code is None:
        choice = some_languages(tokens, tgt_lang)
        raise ConfigError(
            f"`tgt_lang` {tgt_lang}: the model has no token for this language, which sources must open with: choose "
            f"{choice}, or set the prefix"
        )
    return f"{tokens[code]} "
