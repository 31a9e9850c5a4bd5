"""A language model that labels, behind a server or in a folder: its prompts, what its labels depend on, its answers."""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset

from seq2seq_distill import demo
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.languages import language_name
from seq2seq_distill.data.tokenization.tokenizers import tokenizer_fingerprint, tokenizer_of
from seq2seq_distill.decoding.generation import GenerationSettings, causal_generation_config
from seq2seq_distill.decoding.language_model.causal import CausalLanguageModel
from seq2seq_distill.decoding.language_model.prompts import Prompts, Template, load_template
from seq2seq_distill.models.fingerprint import model_fingerprint
from seq2seq_distill.models.loading import is_causal, load_causal
from seq2seq_distill.training.labels.answers import Counts, candidates_of, write_counts
from seq2seq_distill.training.labels.shards import LabelFolder
from seq2seq_distill.training.labels.teacher import seeded
from seq2seq_distill.utils.distributed import local_device
from seq2seq_distill.utils.errors import ConfigError, raise_config_error

logger = logging.getLogger(__name__)

FIXED = (
    *("split", "n_best", "sample", "temperature", "top_k", "top_p", "seed", "shard_rows", "api", "logprobs"),
    *("src_lang", "tgt_lang"),
)
"""Options that the raw candidates depend on, besides what the model, the data and the prompts say."""
SHOWN = 3
"""Prompts that a dry run shows."""
ESTIMATED = 1000
"""Rows, spread over the data, from whose prompts the tokens of all are estimated."""
BYTES_PER_TOKEN = 4
"""Roughly, of the vocabularies of large language models; fewer in scripts that they know less."""


def labels_with_language_model(config: LabelConfig) -> bool:
    """Whether a language model labels, and no encoder-decoder.

    Raises:
        ConfigError: there are options that do not apply to the one that it is.
        ModelError: there is no model.
    """
    if config.server is not None:
        return True
    causal = is_causal(demo.model_source(config.model, "model"), field="model")
    problems = config.unused_by_language_model() if causal else config.unused_by_encoder_decoder()
    raise_config_error([problem.message for problem in problems])
    return causal


def make_prompts(config: LabelConfig, pairs: Sequence[tuple[str, str]]) -> Prompts:
    """The prompts that the options ask for.

    Args:
        config: of the command.
        pairs: examples to show, one more than `shots`; empty without these.

    Raises:
        ConfigError: a template cannot be read, or has no place for what is asked for.
    """
    template = load_template(config.prompt, str(config.task), config.api)
    names = {"src_language": config.src_lang, "tgt_language": config.tgt_lang}
    values = {name: language_name(code) for name, code in names.items() if code is not None}
    _warn_of_unknown_languages(config, template)
    if config.style is not None:
        if "style" not in template.placeholders:
            raise ConfigError(f"`prompt` {config.prompt} has no {{style}} for `style` {config.style}: add it")
        values["style"] = config.style
    return Prompts(template, values, pairs[:-1], pairs[-1] if pairs else None)


def _warn_of_unknown_languages(config: LabelConfig, template: Template) -> None:
    """A mistyped code would stand in every prompt; what is written like a name ("Swiss German") is taken for one."""
    for field, placeholder in (("src_lang", "src_language"), ("tgt_lang", "tgt_language")):
        code = getattr(config, field)
        if placeholder in template.placeholders and code and language_name(code) == code and not code.istitle():
            logger.warning(
                "`%s` %s is not the code of a known language, and the prompt contains it as it is: correct it, or "
                "write out the language's English name, such as German",
                *(field, code),
            )


@dataclass(frozen=True)
class LanguageModelTeacher:
    """The language model that labels."""

    prompts: Prompts
    model: CausalLanguageModel | None
    """None behind a server."""
    fingerprint: str
    """Of its weights; behind a server, its name."""

    def wanted(self, config: LabelConfig, data: str) -> dict[str, Any]:
        """What the raw candidates depend on, as plain values; of a server, not where it is."""
        wanted = {name: getattr(config, name) for name in FIXED} | {
            "server": config.server is not None,
            "max_target_length": config.target_limit,
            "generate": config.generate or None,
            "prompt": self.prompts.fingerprint,
            "model": self.fingerprint,
            "data": data,
        }
        if self.model is not None:
            generation = self.model.generation.to_diff_dict()
            generation.pop("transformers_version", None)
            wanted |= {
                "tokenizer": tokenizer_fingerprint(self.model.tokenizer),
                "chat_template": self.model.tokenizer.chat_template if config.api == "chat" else None,
                "generation": generation,
                "max_tokens": config.max_tokens,
            }
        return dict(json.loads(json.dumps(wanted)))

    def label(self, config: LabelConfig, folder: LabelFolder, sources: Sequence[str], shard: int) -> None:
        """Write a shard with a model in a folder; samples depend on seed and shard alone."""
        assert self.model is not None
        with seeded(config.seed, shard):
            answers = self.model.answers(sources, config.n_best)
        counts = Counts()
        candidates = candidates_of(config, sources, answers, counts)
        write_counts(folder, shard, counts)
        folder.write_raw(shard, sources, candidates)


def load_language_model(config: LabelConfig, pairs: Sequence[tuple[str, str]]) -> LanguageModelTeacher:
    """The language model that the config names, which is not loaded where a server has it.

    Args:
        config: of the command.
        pairs: examples for the prompts, one more than `shots`; empty without these.

    Raises:
        ConfigError, ModelError: in one line.
    """
    prompts = make_prompts(config, pairs)
    if config.server is not None:
        return LanguageModelTeacher(prompts, None, config.model)
    model = _load_model(config, prompts)
    return LanguageModelTeacher(prompts, model, model_fingerprint(model.model))


def _load_model(config: LabelConfig, prompts: Prompts) -> CausalLanguageModel:
    path = demo.model_source(config.model, "model")
    device = local_device()
    model = load_causal(path, torch.float32 if device.type == "cpu" else "auto", field="model")
    model.to(device)  # type: ignore[arg-type]
    options = dict(config.generate)
    template_options = options.pop("chat_template_kwargs", {})
    if config.sample:
        options |= {"do_sample": True} | {name: getattr(config, name) for name in ("temperature", "top_k", "top_p")}
    settings = GenerationSettings(config.beams, config.target_limit, config.length_penalty, options=options, group="")
    return CausalLanguageModel(
        model,
        tokenizer_of(path, "model"),
        prompts,
        config.api,
        causal_generation_config(model, settings),
        max_tokens=config.max_tokens,
        template_options=template_options,
    )


def request_fingerprint(wanted: dict[str, Any]) -> str:
    """Of all that an answer depends on besides its source; `data` and `shard_rows` are not of these."""
    of_answers = {name: value for name, value in wanted.items() if name not in ("data", "shard_rows", "split")}
    return hashlib.sha256(json.dumps(of_answers, sort_keys=True).encode()).hexdigest()


def server_key(config: LabelConfig) -> str | None:
    """The server's key, from the environment alone.

    Raises:
        ConfigError: it cannot be sent.
    """
    key = os.environ.get(config.key_variable, "").strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"`key_variable` {config.key_variable} holds characters that no key has: set it again")
    return key or None


def show_plan(config: LabelConfig, teacher: LanguageModelTeacher, dataset: Dataset) -> dict[str, Any]:
    """Print the prompts of the first rows, and an estimate of what all will take; returns the estimate."""
    prompts = teacher.prompts
    for source in dataset[:SHOWN]["source"]:
        print(_shown(prompts, config, source), end="\n\n", file=sys.stderr)
    rows = range(0, len(dataset), max(1, len(dataset) // ESTIMATED))
    sizes = [_prompt_tokens(config, teacher, source) for source in dataset[rows]["source"]]
    estimate = {
        "rows": len(dataset),
        "requests": len(dataset),
        "prompt_tokens": round(fmean(sizes) * len(dataset)),
        "answer_tokens_at_most": len(dataset) * config.n_best * config.target_limit,
    }
    print(json.dumps(estimate))
    return estimate


def _shown(prompts: Prompts, config: LabelConfig, source: str) -> str:
    if config.api == "completions":
        return prompts.text(source)
    return "\n".join(f"[{message['role']}]\n{message['content']}" for message in prompts.messages(source))


def _prompt_tokens(config: LabelConfig, teacher: LanguageModelTeacher, source: str) -> float:
    if teacher.model is not None:
        return len(teacher.model.encode(source))
    return len(_shown(teacher.prompts, config, source).encode()) / BYTES_PER_TOKEN
