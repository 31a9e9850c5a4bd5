"""Load a tokenizer with its languages, or train one."""

import hashlib
import inspect
import json
import logging
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from seq2seq_distill.data.languages import language_codes, language_tokens, plain_code, some_languages
from seq2seq_distill.utils.errors import ConfigError, ModelError, format_value

logger = logging.getLogger(__name__)

PAD, EOS, UNK, BOS = "<pad>", "</s>", "<unk>", "<s>"
SPECIAL_TOKENS = (PAD, EOS, UNK, BOS)
_PASSING_STATE = {  # of the last call, of the place and of the library; tokens do not depend on it
    *("truncation", "truncation_side", "truncation_strategy", "max_length", "stride"),
    *("padding", "padding_side", "pad_to_multiple_of", "pad_token_type_id"),
    *("name_or_path", "is_local", "local_files_only", "transformers_version"),
}
_MULTILINGUAL = ("m2m_100", "mbart", "nllb-moe", "plbart")
"""Model types whose tokenizers put a language in front of, or behind, each text."""


def load_tokenizer(
    path: str | Path,
    src_lang: str | None = None,
    tgt_lang: str | None = None,
    field: str = "teacher",
    src_field: str = "src_lang",
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder or Hub id, with its languages set where it has any (mBART, M2M100, NLLB, ...).

    Languages that the tokenizer was saved with stand in for those that are None. Tokenizers of one language
    pair (Marian) or of none (BART, T5, Pegasus) ignore them.

    Raises:
        ModelError: there is no tokenizer at `path`.
        ConfigError: the tokenizer needs languages and has none, or does not know the one given.

    Examples:
        >>> from seq2seq_distill import load_tokenizer
        >>> from seq2seq_distill.demo import model_source
        >>> tokenizer = load_tokenizer(model_source("demo:translation"))
        >>> tokenizer("on 3 May").input_ids[-1] == tokenizer.eos_token_id
        True
    """
    tokenizer = tokenizer_of(path, field)
    known = language_codes(tokenizer)
    if not known:
        _check_class(tokenizer, path, field)
        return tokenizer
    options: dict[str, Any] = {}
    for name, code, code_field in (("src_lang", src_lang, src_field), ("tgt_lang", tgt_lang, "tgt_lang")):
        language = code or tokenizer.init_kwargs.get(name)
        if language is None:
            raise ConfigError(
                f"`{code_field}` is missing: `{field}` {path} is multilingual: choose {some_languages(known)}"
            )
        options[name] = plain_code(language)
        if options[name] not in known:
            raise ConfigError(
                f"`{code_field}` {language}: `{field}` {path} does not know this language: choose "
                f"{some_languages(known, language)}"
            )
    ids = getattr(tokenizer, "lang_token_to_id", {})
    if not ids.keys() <= set(tokenizer.all_special_tokens):
        # M2M100 may have forgotten that these are special: decoding would leave "__de__" in the text.
        options["additional_special_tokens"] = sorted(ids, key=ids.__getitem__)
    return tokenizer_of(path, field, **options)


def _check_class(tokenizer: PreTrainedTokenizerBase, path: str | Path, field: str) -> None:
    """Refuse the tokenizer of a multilingual model that was saved under a general class, which ignores languages."""
    tokens = language_tokens(tokenizer)
    if len(tokens) < 2:
        return
    model_type = PreTrainedConfig.get_config_dict(str(path))[0].get("model_type")
    if model_type in _MULTILINGUAL:
        usual = "M2M100Tokenizer" if tokens[0].startswith("__") else "NllbTokenizer, MBartTokenizer or MBart50Tokenizer"
        raise ModelError(
            f"`{field}` {path}: its tokenizer knows languages ({tokens[0]}, {tokens[1]}, ...), but its class "
            f"{type(tokenizer).__name__} puts none of them into texts: set the tokenizer_class that it was made with "
            f"in tokenizer_config.json ({usual})"
        )


def train_tokenizer(
    lines: Iterable[str], vocab_size: int, *, model_max_length: int = 512, field: str = "student.vocab_size"
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer that appends `</s>` and gives back any text byte for byte.

    A space is put before the text, and taken off again by the decoder, so that a word has the same tokens at
    the start of a line as in its middle. Digits stand alone. Ids 0 to 3 are `<pad>`, `</s>`, `<unk>`, `<s>`.

    Raises:
        ConfigError: `vocab_size` is too small for the 256 bytes and the special tokens.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(alphabet) + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise ConfigError(
            f"`{field}` {vocab_size} is too small for all bytes and the special tokens: choose at least {smallest}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    eos_id = tokenizer.token_to_id(EOS)
    if tokenizer.get_vocab_size() < vocab_size:
        logger.warning(
            "the text yields a vocabulary of %d tokens, not the requested %d", tokenizer.get_vocab_size(), vocab_size
        )
    specials = [(EOS, eos_id)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=specials)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        bos_token=BOS,
        model_max_length=model_max_length,
        clean_up_tokenization_spaces=False,
    )


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 (hex) of the tokenizer's files, without what does not change tokens (paths, truncation)."""
    digest = hashlib.sha256(f"{type(tokenizer).__name__}, cut on the {tokenizer.truncation_side}".encode())
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for file in sorted(Path(folder).rglob("*")):
            if not file.is_file():
                continue
            content = file.read_bytes()
            if file.suffix == ".json":
                content = json.dumps(_without_state(json.loads(content)), sort_keys=True).encode()
            digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _without_state(content: Any) -> Any:
    return {key: value for key, value in content.items() if key not in _PASSING_STATE}


def tokenizer_of(path: str | Path, field: str, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub id, as it was saved. ModelError, which opens with `field`: there is none."""
    path = Path(path).expanduser() if str(path).startswith("~") else path
    if not Path(path).exists() and not re.fullmatch(r"[\w][\w.-]*(/[\w.-]+)?", str(path)):
        raise ModelError(f"`{field}` {path}: no such folder: check the path")
    check_json(Path(path) / "config.json", f"`{field}` {path}")  # else the tokenizer would be blamed
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, **options)
    except Exception as error:  # no files, no network, a class that cannot be built: the library raises any type
        if asks_for_trust(error):
            raise code_refused(path, field) from None
        if missing := _missing_vocabulary(Path(path)):
            raise ModelError(f"`{field}` {path}: {missing}") from None
        reason = format_value(" ".join(str(error).split()))
        raise ModelError(
            f"`{field}` {path}: no tokenizer can be loaded ({reason}): save one in the same folder"
        ) from None
    if "auto_map" in tokenizer.init_kwargs:
        raise code_refused(path, field)
    # Without a file, some classes (of BART, T5, LED) make a tokenizer of special tokens alone.
    if set(tokenizer.get_vocab()) <= {*tokenizer.all_special_tokens, "\u2581"}:
        raise ModelError(f"`{field}` {path}: no tokenizer is saved with the model: save one in the same folder")
    return tokenizer


def _missing_vocabulary(folder: Path) -> str:
    """The vocabulary files that the tokenizer class of a folder requires and the folder lacks; empty if there are none.

    The library passes None for such a file, and the class fails in its own words where it opens it.
    """
    try:
        name = str(json.loads((folder / "tokenizer_config.json").read_bytes())["tokenizer_class"])
        tokenizer_class = getattr(transformers, name)
        parameters = inspect.signature(tokenizer_class).parameters
        files = [
            folder / file
            for parameter, file in tokenizer_class.vocab_files_names.items()
            if parameter in parameters and parameters[parameter].default is inspect.Parameter.empty
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError):
        return ""
    missing = [str(file) for file in files if not file.exists()]
    if not missing:
        return ""
    verb, pronoun = ("is", "it") if len(missing) == 1 else ("are", "them")
    return f"{', '.join(missing)} {verb} missing: the tokenizer ({name}) needs {pronoun}: add {pronoun}"


def check_json(file: Path, prefix: str) -> None:
    """Raise ModelError, which opens with `prefix`, if the file exists but does not contain a JSON object."""
    if not file.is_file():
        return
    try:
        record = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{prefix}: its {file.name} is not valid JSON ({format_value(str(error))}): replace it with a complete one"
        ) from None
    if not isinstance(record, dict):
        raise ModelError(f"{prefix}: its {file.name} is not a JSON object: replace it with a complete one")


def asks_for_trust(error: Exception) -> bool:
    """Whether a library's error asks to run Python code from the model's folder; its text alone says so."""
    return "trust_remote_code" in str(error)


def code_refused(path: str | Path, field: str) -> ModelError:
    """The error for a model or tokenizer that is defined by Python code in its folder."""
    return ModelError(
        f"`{field}` {path}: its config requires custom Python code (auto_map), which is never run: "
        "choose a model that transformers itself defines, or remove auto_map from the folder's JSON files"
    )


def pad_id(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig | GenerationConfig) -> int:
    """What fills sources up, by the tokenizer or else by the model's config; ModelError if neither says."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else config.pad_token_id
    if pad is None:
        raise ModelError("the tokenizer has no pad token: set pad_token_id in the model's config")
    return int(pad)
