"""What layouts cost, measured beside the teacher on models of their shapes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.commands.plan.layouts import Layout, Measured
from seq2seq_distill.commands.plan.vocabularies import Vocabulary, number_of_tokens
from seq2seq_distill.config import RunConfig
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.tokenization.tokenizers import pad_id
from seq2seq_distill.decoding.conversion import LOADERS, check_family, save_converted
from seq2seq_distill.decoding.ctranslate2_decoder import TRIAL, CTranslate2Decoder
from seq2seq_distill.decoding.exported import CTRANSLATE2_MODEL
from seq2seq_distill.decoding.generation import GenerationSettings, generation_config
from seq2seq_distill.decoding.loading import LoadedModel
from seq2seq_distill.metrics.cost import (
    count_parameters,
    decoding_memory,
    measure_decoding,
    model_bytes,
    time_in_turns,
)
from seq2seq_distill.models import architectures
from seq2seq_distill.shrink.shape import model_of_shape
from seq2seq_distill.shrink.width import Widths, widths_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

WANTED_BY = "`engine` ctranslate2"
SECONDS = 1.5
"""For which the slowest of the models that are measured side by side is timed, if it takes more batches for it ..."""
MOST_REPEATS = 500
"""... than are asked for, but no more than these."""


@dataclass(frozen=True)
class Workload:
    """What is decoded: batches of random tokens, to outputs of one length.

    Nobody knows yet where an untrained student would stop.
    """

    rows: int
    source_length: int
    output_length: int
    repeats: int
    """Batches that are timed at least."""
    settings: GenerationSettings
    """With outputs of exactly that length."""

    def count(self, seconds: float) -> int:
        """Batches to time if one takes so long: of short ones more, since they are disturbed more."""
        return max(self.repeats, min(MOST_REPEATS, round(SECONDS / seconds)))

    def batches(self, tokenizer: PreTrainedTokenizerBase, count: int) -> list[list[list[int]]]:
        """So many batches of sources of tokens of which none is special."""
        special = set(tokenizer.all_special_ids)
        ordinary = torch.tensor([token for token in range(len(tokenizer)) if token not in special])
        shape = (count, self.rows, self.source_length)
        draws = torch.randint(len(ordinary), shape, generator=torch.Generator().manual_seed(0))
        return ordinary[draws].tolist()


def with_fixed_length(settings: GenerationSettings, output: int) -> GenerationSettings:
    """The settings, with outputs of exactly so many tokens."""
    return replace(settings, max_length=output, options={**settings.options, "min_new_tokens": output - 1})


@dataclass(frozen=True)
class Subject:
    """A model that is measured, and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True)
class Sample:
    """What was measured of a model."""

    seconds: float
    """Of the fastest batch."""
    parameters: int
    bytes: int
    memory_bytes: int | None

    def or_faster(self, other: Sample) -> Sample:
        """The faster of two measurements of one model."""
        return self if self.seconds <= other.seconds else other


class Engine(Protocol):
    """Decodes, and is timed."""

    def measure(self, subjects: Mapping[Layout, Subject]) -> dict[Layout, Sample]:
        """Time the subjects in turns, so that a busy machine slows all of them."""


class TransformersEngine:
    """`generate` of transformers, with weights in float32."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def measure(self, subjects: Mapping[Layout, Subject]) -> dict[Layout, Sample]:
        """As `Engine.measure`."""
        names = {str(layout): layout for layout in subjects}
        models = {name: subjects[layout].model for name, layout in names.items()}
        settings = self._workload.settings
        batches = {name: self._collated(subjects[layout], 1) for name, layout in names.items()}
        first = measure_decoding(models, batches, settings, warmup=1)
        count = self._workload.count(max(decoding.seconds[0] for decoding in first.values()))
        batches = {name: self._collated(subjects[layout], count) for name, layout in names.items()}
        timed = measure_decoding(models, batches, settings, warmup=0)
        return {
            layout: Sample(
                min(timed[name].seconds),
                count_parameters(models[name]),
                model_bytes(models[name]),
                decoding_memory(models[name], batches[name][0], settings),
            )
            for name, layout in names.items()
        }

    def _collated(self, subject: Subject, count: int) -> list[Mapping[str, Any]]:
        model = subject.model
        collate = Collator(pad_id(subject.tokenizer, model.config), architectures.extra_inputs(model.config))
        batches = self._workload.batches(subject.tokenizer, count)
        return [collate([{"input_ids": ids, "row": 0} for ids in batch]) for batch in batches]


class CTranslate2Engine:
    """CTranslate2 on converted models; all of them use the cores in the way that is the fastest for the teacher."""

    def __init__(self, workload: Workload, precision: str, device: torch.device) -> None:
        self._workload, self._precision, self._device = workload, precision, device
        self._threads: tuple[int, int] | None = None

    def measure(self, subjects: Mapping[Layout, Subject]) -> dict[Layout, Sample]:
        """As `Engine.measure`; the first subject is the teacher."""
        with TemporaryDirectory() as place:
            folders = {str(layout): Path(place) / str(number) for number, layout in enumerate(subjects)}
            opened = {str(layout): self._open(subject, folders[str(layout)]) for layout, subject in subjects.items()}
            inputs = {
                str(layout): self._workload.batches(subject.tokenizer, self._workload.repeats)
                for layout, subject in subjects.items()
            }

            def decode(name: str, number: int) -> list[int]:
                batch = inputs[name][number % self._workload.repeats]
                return [best.num_tokens for best, *_ in opened[name].decode(batch, with_scores=False)]

            decoders = {name: partial(decode, name) for name in opened}
            first = time_in_turns(decoders, 1, warmup=1)
            count = self._workload.count(max(times.seconds[0] for times in first.values()))
            timed = time_in_turns(decoders, count, warmup=0)
            return {
                layout: Sample(
                    min(timed[str(layout)].seconds),
                    count_parameters(subject.model),
                    (folders[str(layout)] / CTRANSLATE2_MODEL).stat().st_size,
                    None,
                )
                for layout, subject in subjects.items()
            }

    def _open(self, subject: Subject, folder: Path) -> CTranslate2Decoder:
        folder.mkdir()
        model = subject.model
        nn.Module.to(model, "cpu")
        generation = generation_config(model, self._workload.settings)
        save_converted(folder, model, subject.tokenizer, generation, self._precision, WANTED_BY)
        loaded = LoadedModel(None, subject.tokenizer, "", None, generation)
        decoder = CTranslate2Decoder(
            folder, loaded, threads=self._threads, batch_size=self._workload.rows, device=self._device
        )
        if self._threads is None:
            sources = [batch[0] for batch in self._workload.batches(subject.tokenizer, TRIAL)]
            self._threads = decoder.threads = decoder.choose_threads(sources)
        return decoder


class Meter:
    """Measures layouts beside the teacher.

    All batches have the same shapes, and whatever else the machine does only makes some of them slower: the fastest one
    counts, of the teacher the fastest of all measurements.

    Args:
        run: what is planned.
        engine: decodes.
        teacher: the whole teacher, on its device.
        vocabularies: by their numbers of tokens.
        tokens: decoded in a batch.
    """

    def __init__(
        self, run: RunConfig, engine: Engine, teacher: Subject, vocabularies: Mapping[int, Vocabulary], tokens: int
    ) -> None:
        self._run, self._engine, self._whole, self._tokens = run, engine, teacher, tokens
        self._vocabularies = vocabularies
        self.layout = layout_of(teacher.model)
        """The teacher's."""
        self._samples: dict[Layout, Sample] = {}

    @property
    def found(self) -> dict[Layout, Measured]:
        """What everything that was measured costs, the teacher first."""
        return {layout: self._cost(layout) for layout in self._samples}

    def measure(self, layouts: Sequence[Layout]) -> list[Measured]:
        """What the layouts cost: measured side by side, unless they were measured before."""
        new = [layout for layout in layouts if layout not in self._samples and layout != self.layout]
        if new or self.layout not in self._samples:
            subjects = {self.layout: self._whole, **{layout: self._subject(layout) for layout in new}}
            for layout, sample in self._engine.measure(subjects).items():
                before = self._samples.get(layout)
                self._samples[layout] = sample if before is None else before.or_faster(sample)
            for layout in new:
                name = layout.name(self.layout)
                logger.info("%s: %.2f times as fast as the teacher", name, self._cost(layout).speedup)
        return [self._cost(layout) for layout in layouts]

    def _subject(self, layout: Layout) -> Subject:
        subject, device = self._whole, self._whole.model.device
        if layout.vocabulary != self.layout.vocabulary:
            subject = Subject(*self._vocabularies[layout.vocabulary].load(self._run))
        widths = Widths(layout.ffn, layout.num_heads, widths_of(subject.model.config).d_model)
        model = model_of_shape(subject.model, *layout.depths, widths)
        nn.Module.to(model, device)  # transformers' own `to` has no types
        return Subject(model, subject.tokenizer)

    def _cost(self, layout: Layout) -> Measured:
        sample, teacher = self._samples[layout], self._samples[self.layout]
        return Measured(
            layout,
            parameters=sample.parameters,
            bytes=sample.bytes,
            latency_ms=1000 * sample.seconds,
            speedup=teacher.seconds / sample.seconds,
            tokens_per_second=self._tokens / sample.seconds,
            memory_bytes=sample.memory_bytes,
        )


def layout_of(model: PreTrainedModel) -> Layout:
    """The layout of a model."""
    widths = widths_of(model.config)
    return Layout(*architectures.depths(model.config), *widths.ffn, widths.num_heads, number_of_tokens(model))


def check_engine(engine: str, teacher: PreTrainedModel) -> None:
    """Raise ModelError if the engine has no models of the teacher's kind."""
    if engine == "ctranslate2":
        check_family(teacher.config.model_type, (*LOADERS,), WANTED_BY)
