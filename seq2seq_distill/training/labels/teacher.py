"""The model that labels: what it is, which engine runs it, and the candidates that it writes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.encoding import Collator, default_prefix
from seq2seq_distill.data.tokenizers import forced_bos_token_id, load_tokenizer
from seq2seq_distill.decoding.conversion import save_converted
from seq2seq_distill.decoding.engines import (
    CTranslate2Engine,
    Engine,
    Hypothesis,
    TransformersEngine,
    check_exported_options,
    unknown_to_ctranslate2,
)
from seq2seq_distill.decoding.generation import GenerationSettings, text_of, with_settings
from seq2seq_distill.decoding.likelihood import mean_log_probabilities, token_ids
from seq2seq_distill.decoding.loading import export_record, load_model, longest_source
from seq2seq_distill.decoding.parity import check_parity
from seq2seq_distill.models import architectures
from seq2seq_distill.models.fingerprint import model_fingerprint
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.training.labels.choice import Candidate
from seq2seq_distill.utils.distributed import local_device
from seq2seq_distill.utils.errors import ConfigError, ModelError, UserError
from seq2seq_distill.utils.files import file_sha256, write_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

COMPARED = 64
"""Sources on which CTranslate2 is compared with transformers."""


@dataclass(frozen=True)
class LabelTeacher:
    """The model that labels, and how it reads and decodes."""

    model: PreTrainedModel | None
    """None for a folder made by `distill export`."""
    tokenizer: PreTrainedTokenizerBase
    prefix: str
    longest: int
    """Most tokens of a source."""
    generation: GenerationConfig
    fingerprint: str

    def source_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Sources as the model reads them."""
        return token_ids(self.tokenizer, [self.prefix + text for text in texts], self.longest)


def load_label_teacher(config: LabelConfig) -> LabelTeacher:
    """The model that the config names.

    Raises:
        UserError: in one line.
    """
    record = export_record(config.model)
    teacher = _exported(config, record) if record else _whole(config)
    if config.n_best > (teacher.generation.num_beams or 1) and not config.sample:
        raise ConfigError(
            f"`n_best` {config.n_best} needs as many beams, and the model has {teacher.generation.num_beams}: "
            f"add `beams` {config.n_best}, or `sample` true"
        )
    return teacher


def _settings(config: LabelConfig) -> GenerationSettings:
    settings = GenerationSettings.of_command(config)
    if not config.sample:
        return settings
    drawing = {"do_sample": True, "temperature": config.temperature, "top_k": config.top_k, "top_p": config.top_p}
    return replace(settings, beams=1, options={**config.generate, **drawing})


def _whole(config: LabelConfig) -> LabelTeacher:
    loaded = load_model(config.model, "model", config, _settings(config))
    if config.engine == "ctranslate2" and (unknown := unknown_to_ctranslate2(config.generate)):
        raise ConfigError(
            f"`engine` ctranslate2 has no {', '.join(unknown)} of `generate`: leave it out, or choose `engine` "
            "transformers"
        )
    fingerprint = model_fingerprint(loaded.model)
    return LabelTeacher(loaded.model, loaded.tokenizer, loaded.prefix, loaded.longest, loaded.generation, fingerprint)


def _exported(config: LabelConfig, record: dict[str, Any]) -> LabelTeacher:
    folder = Path(config.model).expanduser()
    needs_the_model = {"`engine` transformers": config.engine == "transformers", "`sample` true": config.sample}
    needs_the_model |= {"`targets` reference": config.targets == "reference"}
    for option in (option for option, is_given in needs_the_model.items() if is_given):
        raise ModelError(f"`model` {config.model} is an exported model, which {option} cannot use: give the original")
    own = GenerationConfig.from_pretrained(folder)
    tokenizer = load_tokenizer(folder, config.src_lang, config.tgt_lang, field="model")
    forced = forced_bos_token_id(tokenizer, config.tgt_lang, own)
    generation = with_settings(own, replace(_settings(config), forced_bos_token_id=forced), own.max_length - 1)
    check_exported_options(f"`model` {config.model}", config.generate, own)
    return LabelTeacher(
        None,
        tokenizer,
        str(record.get("prefix", "")) if config.prefix is None else config.prefix,
        min(config.source_limit, int(record.get("max_source_length", config.source_limit))),
        generation,
        file_sha256(folder / "model.bin"),
    )


def choose_engine(config: LabelConfig, teacher: LabelTeacher, converted: Path, texts: Sequence[str]) -> dict[str, Any]:
    """Name, threads and reason of the engine; what CTranslate2 needs is put into the folder `converted`.

    Raises:
        UserError: the engine that was asked for cannot run the model.
    """
    reason = _no_need_of_ctranslate2(config)
    if reason is None:
        try:
            return _ctranslate2(config, teacher, converted, teacher.source_ids(texts[:COMPARED]))
        except UserError as error:
            if config.engine == "ctranslate2" or teacher.model is None:
                raise
            reason = str(error)
    logger.info("labelled with transformers: %s", reason)
    return {"engine": "transformers", "threads": None, "why": reason}


def _no_need_of_ctranslate2(config: LabelConfig) -> str | None:
    if config.targets == "reference":
        return "`targets` reference generates nothing"
    if config.sample:
        return "`sample`: the draws of CTranslate2 cannot be repeated after a stop"
    if config.engine == "transformers":
        return "`engine` transformers"
    unknown = unknown_to_ctranslate2(config.generate) if config.engine == "auto" else []
    return f"CTranslate2 has no {', '.join(unknown)} of `generate`" if unknown else None


def _ctranslate2(
    config: LabelConfig, teacher: LabelTeacher, converted: Path, sources: list[list[int]]
) -> dict[str, Any]:
    wanted_by = f"`engine` {config.engine}"
    why = "an exported model"
    if teacher.model is not None:
        searches = {"own search": teacher.generation}
        remedy = "choose `engine` transformers"
        parity = check_parity(teacher.model, teacher.tokenizer, searches, sources, wanted_by, remedy)["own search"]
        why = f"{parity.equal:.1%} of {parity.sources} outputs equal those of transformers"
    found = {"engine": "ctranslate2", "threads": None, "why": why}
    engine = open_engine(config, teacher, converted, found)
    assert isinstance(engine, CTranslate2Engine)
    threads = engine.choose_threads(sources)
    logger.info("labelled with CTranslate2, %d side by side with %d threads each: %s", *threads, why)
    return {**found, "threads": list(threads)}


def open_engine(config: LabelConfig, teacher: LabelTeacher, converted: Path, found: dict[str, Any]) -> Engine:
    """The engine that was chosen."""
    if found["engine"] == "transformers":
        assert teacher.model is not None
        pad = int(teacher.tokenizer.pad_token_id)
        return TransformersEngine(_on_device(teacher.model), teacher.generation, pad, config.max_tokens)
    folder = Path(config.model).expanduser()
    if teacher.model is not None:
        folder = converted
        if not converted.exists():
            save = partial(
                save_converted,
                model=teacher.model,
                tokenizer=teacher.tokenizer,
                settings=teacher.generation,
                quantization=config.quantization,
                wanted_by=f"`engine` {config.engine}",
            )
            write_folder(folder, save)
    threads = tuple(found["threads"]) if found["threads"] else None
    return CTranslate2Engine(folder, teacher.generation, threads, max_tokens=config.max_tokens, device=local_device())


def generated(
    config: LabelConfig, teacher: LabelTeacher, engine: Engine, sources: Sequence[str], shard: int
) -> list[list[Candidate]]:
    """Candidates that the model writes for each source, the likeliest first; draws depend on seed and shard alone."""
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.SeedSequence([config.seed, shard]).generate_state(1, np.uint64)[0] >> 1))
        found = engine.decode(teacher.source_ids(sources), config.n_best)
    penalty = teacher.generation.length_penalty
    power = 0.0 if penalty is None else penalty - 1
    candidates = [[_candidate(teacher.tokenizer, each, power) for each in own] for own in found]
    return [sorted(own, key=lambda candidate: -candidate.score) for own in candidates] if config.sample else candidates


def _candidate(tokenizer: PreTrainedTokenizerBase, hypothesis: Hypothesis, power: float) -> Candidate:
    """With its score by token: a length penalty takes another power of the length, the end of sentence counted."""
    return Candidate(text_of(tokenizer, hypothesis.ids), hypothesis.score * (len(hypothesis.ids) + 1) ** power)


def scored(
    config: LabelConfig,
    teacher: LabelTeacher,
    sources: Sequence[str],
    references: Sequence[str],
    others: Sequence[str],
) -> list[list[Candidate]]:
    """The references themselves, with the scores that the model gives them for their sources and for others."""
    model = teacher.model
    assert model is not None
    own, other = (
        _scores(model, teacher.tokenizer, teacher.source_ids(texts), references, None, config.max_tokens)
        for texts in (sources, others)
    )
    return [[Candidate(text, a, a - b)] for text, a, b in zip(references, own, other, strict=True)]


class BackwardModel:
    """Scores each source given its target: a model of the other direction.

    Args:
        config: names it; its languages are swapped.
    """

    def __init__(self, config: LabelConfig) -> None:
        path, field = demo.model_source(str(config.backward_model)), "backward_model"
        self._config = config
        self._model = load_pretrained(path, torch.float32, field=field)
        self._tokenizer = load_tokenizer(path, config.tgt_lang, config.src_lang, field=field)
        languages = (config.tgt_lang, config.src_lang)
        self._prefix = default_prefix(self._model.config, str(config.task), None, languages)
        self.fingerprint = model_fingerprint(self._model)

    def scores(self, targets: Sequence[str], sources: Sequence[str]) -> list[float]:
        """Mean log-probability of the tokens of each source."""
        longest = longest_source(self._config.source_limit, self._model)
        ids = token_ids(self._tokenizer, [self._prefix + text for text in targets], longest)
        return _scores(self._model, self._tokenizer, ids, sources, self._config.source_limit, self._config.max_tokens)


def _on_device(model: PreTrainedModel) -> PreTrainedModel:
    model.to(local_device())  # type: ignore[arg-type]
    return model


def _scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: list[list[int]],
    targets: Sequence[str],
    longest: int | None,
    max_tokens: int,
) -> list[float]:
    """Mean log-probabilities of texts as targets, each cut after `longest` tokens or the model's positions."""
    limits = [limit for limit in (longest, architectures.max_positions(model.config)[1]) if limit is not None]
    labels = token_ids(tokenizer, targets, min(limits, default=None), "text_target")
    collate = Collator(int(tokenizer.pad_token_id), architectures.extra_inputs(model.config))
    return mean_log_probabilities(_on_device(model), collate, sources, labels, max_tokens)
