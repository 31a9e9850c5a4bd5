"""The model that labels: what it is, which decoder runs it, and the candidates that it writes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from seq2seq_distill import demo
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.tokenization.prefixes import default_prefix
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer, pad_id
from seq2seq_distill.decoding.conversion import not_held, save_converted, unknown_to_engines
from seq2seq_distill.decoding.ctranslate2_decoder import CTranslate2Decoder
from seq2seq_distill.decoding.decoder import Decoder, Hypothesis, TransformersDecoder
from seq2seq_distill.decoding.exported import decoding_files, engine_of, open_exported
from seq2seq_distill.decoding.generation import GenerationSettings
from seq2seq_distill.decoding.likelihood import mean_log_probabilities
from seq2seq_distill.decoding.loading import LoadedModel, export_record, load_exported, load_model, longest_source
from seq2seq_distill.decoding.parity import check_parity, to_ctranslate2
from seq2seq_distill.decoding.token_logprobs import token_logprobs
from seq2seq_distill.models import architectures
from seq2seq_distill.models.fingerprint import model_fingerprint
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.training.labels.choice import Candidate
from seq2seq_distill.training.labels.sentences import split_texts
from seq2seq_distill.utils.distributed import local_device
from seq2seq_distill.utils.errors import ConfigError, ModelError, one_line
from seq2seq_distill.utils.files import file_sha256, write_folder

logger = logging.getLogger(__name__)

COMPARED = 64
"""Sources on which CTranslate2 is compared with transformers."""

Candidates = list[list[Candidate]]
"""Of each row."""


@dataclass(frozen=True)
class LabelTeacher:
    """The model that labels."""

    loaded: LoadedModel
    fingerprint: str
    """Of its weights: labels depend on them."""


def load_label_teacher(config: LabelConfig) -> LabelTeacher:
    """The model that the config names.

    Raises:
        UserError: in one line.
    """
    teacher = _exported(config) if export_record(config.model) else _whole(config)
    num_beams = teacher.loaded.generation.num_beams or 1
    if config.n_best > num_beams and not config.sample:
        raise ConfigError(
            f"`n_best` {config.n_best} needs as many beams, and the model has {num_beams}: "
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
    if config.engine == "ctranslate2" and (unknown := unknown_to_engines(config.generate)):
        raise ConfigError(
            f"`engine` ctranslate2 has no {', '.join(unknown)} of `generate`: leave it out, or choose `engine` "
            "transformers"
        )
    return LabelTeacher(loaded, model_fingerprint(loaded.torch_model))


def _exported(config: LabelConfig) -> LabelTeacher:
    folder = Path(config.model).expanduser()
    needs_the_model = {"`engine` transformers": config.engine == "transformers", "`sample` true": config.sample}
    needs_the_model |= {"`targets` reference": config.targets == "reference", "`logprobs` true": config.logprobs}
    for option in (option for option, is_given in needs_the_model.items() if is_given):
        raise ModelError(f"`model` {config.model} is an exported model, which {option} cannot use: give the original")
    loaded = load_exported(folder, "model", config, _settings(config))
    if config.engine == "ctranslate2" and engine_of(folder) != "ctranslate2":
        raise ModelError(f"`engine` ctranslate2 cannot run `model` {config.model}: leave `engine` out")
    return LabelTeacher(loaded, "-".join(map(file_sha256, decoding_files(folder))))


def choose_decoder(config: LabelConfig, teacher: LabelTeacher, converted: Path, texts: Sequence[str]) -> dict[str, Any]:
    """Name, threads and reason of the decoder; what CTranslate2 needs is put into the folder `converted`.

    Raises:
        UserError: the decoder that was asked for cannot run the model.
    """
    if teacher.loaded.model is None and engine_of(Path(config.model).expanduser()) == "onnxruntime":
        return {"engine": "onnxruntime", "threads": None, "why": "an exported model"}
    reason = _no_need_of_ctranslate2(config, teacher)
    if reason is None:
        try:
            return _ctranslate2(config, teacher, converted, teacher.loaded.encode(texts[:COMPARED]))
        except Exception as error:  # of its loaders and of its engine, which raise any type
            if config.engine == "ctranslate2" or teacher.loaded.model is None:
                raise
            reason = f"CTranslate2 cannot run the model: {one_line(error)}"
    logger.info("labelled with transformers: %s", reason)
    return {"engine": "transformers", "threads": None, "why": reason}


def _no_need_of_ctranslate2(config: LabelConfig, teacher: LabelTeacher) -> str | None:
    if config.targets == "reference":
        return "`targets` reference generates nothing"
    if config.sample:
        return "`sample`: the draws of CTranslate2 cannot be repeated after a stop"
    if config.engine == "transformers":
        return "`engine` transformers"
    unknown = unknown_to_engines(config.generate)
    if unknown and config.engine == "auto":
        return f"CTranslate2 has no {', '.join(unknown)} of `generate`"
    missing = ", ".join(not_held(teacher.loaded.generation))
    if missing and config.engine == "auto" and teacher.loaded.model is not None:
        return f"CTranslate2 has no {missing} of the model's generation settings"
    if missing:
        logger.warning("CTranslate2 has no %s of the model's generation settings: it labels without", missing)
    return None


def _ctranslate2(
    config: LabelConfig, teacher: LabelTeacher, converted: Path, sources: list[list[int]]
) -> dict[str, Any]:
    wanted_by = f"`engine` {config.engine}"
    why = "an exported model"
    if teacher.loaded.model is not None:
        searches = {"own search": teacher.loaded.generation}
        remedy = "choose `engine` transformers"
        convert = to_ctranslate2(wanted_by)
        parity = check_parity(teacher.loaded, searches, sources, convert, wanted_by, remedy)["own search"]
        why = f"{parity.equal:.1%} of {parity.sources} outputs equal those of transformers"
    choice = {"engine": "ctranslate2", "threads": None, "why": why}
    decoder = open_decoder(config, teacher, converted, choice)
    assert isinstance(decoder, CTranslate2Decoder)
    # Workers of Ray have these cores, whatever this machine has.
    threads = decoder.choose_threads(sources, config.cpus_per_worker if config.runner == "ray" else None)
    logger.info("labelled with CTranslate2, %d side by side with %d threads each: %s", *threads, why)
    return {**choice, "threads": list(threads)}


def open_decoder(config: LabelConfig, teacher: LabelTeacher, converted: Path, choice: dict[str, Any]) -> Decoder:
    """The decoder that was chosen."""
    loaded, folder = teacher.loaded, Path(config.model).expanduser()
    if choice["engine"] == "transformers":
        return TransformersDecoder(loaded, max_tokens=config.max_tokens, device=local_device())
    if choice["engine"] == "onnxruntime":
        return open_exported(folder, loaded, max_tokens=config.max_tokens)
    if loaded.model is not None:
        folder = converted
        if not converted.exists():
            save = partial(
                save_converted,
                model=loaded.model,
                tokenizer=loaded.tokenizer,
                settings=loaded.generation,
                quantization=config.quantization,
                wanted_by=f"`engine` {config.engine}",
            )
            write_folder(folder, save)
    threads = tuple(choice["threads"]) if choice["threads"] else None
    return CTranslate2Decoder(folder, loaded, threads=threads, max_tokens=config.max_tokens, device=local_device())


@contextmanager
def seeded(seed: int, shard: int) -> Iterator[None]:
    """Random numbers inside depend on these two alone; outside, nothing changes."""
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.SeedSequence([seed, shard]).generate_state(1, np.uint64)[0] >> 1))
        yield


def generated(
    config: LabelConfig, teacher: LabelTeacher, decoder: Decoder, sources: Sequence[str], shard: int
) -> Candidates:
    """Candidates that the model writes for each source, the likeliest first; samples depend on seed and shard alone.

    Args:
        config: of the command.
        teacher: whose tokenizer encodes the sources.
        decoder: decodes.
        sources: the texts.
        shard: their number.
    """
    parts = split_texts(sources, config.src_lang) if config.split_sentences else None
    with seeded(config.seed, shard):
        encoded = teacher.loaded.encoder.encode(sources if parts is None else parts.sentences)
        decoded = decoder.decode(encoded.ids, config.n_best)
    power = _length_power(teacher.loaded.generation)
    candidates = [
        [_candidate(hypothesis, power, cut) for hypothesis in hypotheses]
        for hypotheses, cut in zip(decoded, encoded.truncated, strict=True)
    ]
    if parts is not None:
        lengths = [len(hypotheses[0].ids) + 1 for hypotheses in decoded]
        return [[row] for row in parts.join([row[0] for row in candidates], lengths, config.tgt_lang)]
    if config.sample:
        candidates = [sorted(row, key=lambda candidate: -(candidate.score or 0.0)) for row in candidates]
    return _with_logprobs(config, teacher, encoded.ids, candidates) if config.logprobs else candidates


def _with_logprobs(
    config: LabelConfig, teacher: LabelTeacher, sources: Sequence[list[int]], candidates: Candidates
) -> Candidates:
    """The same candidates with the log-probability of each token; sources are token ids."""
    teacher.loaded.torch_model.to(local_device())  # type: ignore[arg-type]
    rows = [(source, candidate) for source, row in zip(sources, candidates, strict=True) for candidate in row]
    found = token_logprobs(
        teacher.loaded,
        [source for source, _ in rows],
        [candidate.text for _, candidate in rows],
        limit=teacher.loaded.generation.max_length - 1,
        max_tokens=config.max_tokens,
    )
    for number, scores in enumerate(found):
        if scores is not None:
            source, candidate = rows[number]
            logprobs, ends = (tuple(values.tolist()) for values in scores)
            rows[number] = source, replace(candidate, token_logprobs=logprobs, token_ends=ends)
    known = iter(candidate for _, candidate in rows)
    return [[next(known) for _ in row] for row in candidates]


def _length_power(generation: GenerationConfig) -> float:
    """The power of the length by which a score is multiplied to be a mean over its tokens: a length penalty divides it
    by another one."""
    return 0.0 if generation.length_penalty is None else generation.length_penalty - 1


def _candidate(hypothesis: Hypothesis, power: float, source_cut: bool) -> Candidate:
    assert hypothesis.score is not None
    score = hypothesis.score * (len(hypothesis.ids) + 1) ** power  # the end counts
    return Candidate(hypothesis.text, score, None, source_cut, hypothesis.at_limit)


def scored(
    config: LabelConfig,
    teacher: LabelTeacher,
    sources: Sequence[str],
    references: Sequence[str],
    others: Sequence[str],
) -> Candidates:
    """The references themselves, with the scores that the model gives them for their sources and for others."""
    encoded, encoded_others = map(teacher.loaded.encoder.encode, (sources, others))
    scores, other_scores = (
        _scores(teacher.loaded, ids, references, None, config.max_tokens) for ids in (encoded.ids, encoded_others.ids)
    )
    columns = zip(references, scores, other_scores, encoded.truncated, strict=True)
    candidates = [[Candidate(text, a, a - b, is_cut)] for text, a, b, is_cut in columns]
    return _with_logprobs(config, teacher, encoded.ids, candidates) if config.logprobs else candidates


class BackwardModel:
    """Scores each source given its target: a model of the other direction.

    Args:
        config: names it; its languages are swapped.
    """

    def __init__(self, config: LabelConfig) -> None:
        field = "backward_model"
        path = demo.model_source(str(config.backward_model), field)
        self._config = config
        languages = (config.tgt_lang, config.src_lang)
        model = load_pretrained(path, torch.float32, field=field)
        tokenizer = load_tokenizer(path, *languages, field=field)
        self._loaded = LoadedModel(
            model,
            tokenizer,
            default_prefix(model.config, str(config.task), None, languages, tokenizer),
            longest_source(config.source_limit, model),
            model.generation_config,
        )
        self.fingerprint = model_fingerprint(model)

    def scores(self, targets: Sequence[str], sources: Sequence[str]) -> list[float]:
        """Mean log-probability of the tokens of each source."""
        return _scores(
            self._loaded, self._loaded.encode(targets), sources, self._config.source_limit, self._config.max_tokens
        )


def _scores(
    loaded: LoadedModel, sources: Sequence[list[int]], targets: Sequence[str], limit: int | None, max_tokens: int
) -> list[float]:
    """Mean log-probabilities of texts as targets, each truncated to `limit` tokens or the model's positions.

    Sources are token ids.
    """
    model = loaded.torch_model
    model.to(local_device())  # type: ignore[arg-type]
    limits = [length for length in (limit, architectures.max_positions(model.config)[1]) if length is not None]
    labels = TextEncoder(loaded.tokenizer, "text_target", min(limits, default=None)).encode(targets).ids
    collate = Collator(pad_id(loaded.tokenizer, model.config), architectures.extra_inputs(model.config))
    return mean_log_probabilities(model, collate, sources, labels, max_tokens)
