"""From a teacher to a chosen layout: predict all, measure those that count, compare the losses of a few."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seq2seq_distill.commands.plan.axes import axes_of, check_layouts
from seq2seq_distill.commands.plan.judging import Judge, with_layout
from seq2seq_distill.commands.plan.layouts import Cost, Layout, Measured, evenly, frontier
from seq2seq_distill.commands.plan.measuring import (
    CTranslate2Engine,
    Engine,
    Meter,
    Subject,
    TransformersEngine,
    Workload,
)
from seq2seq_distill.commands.plan.options import PlanConfig
from seq2seq_distill.commands.plan.prediction import Predictor, Samples
from seq2seq_distill.commands.plan.report import Findings
from seq2seq_distill.commands.plan.selection import find_contenders
from seq2seq_distill.commands.plan.vocabularies import Vocabulary, make_vocabularies, whole_vocabulary
from seq2seq_distill.config import RunConfig
from seq2seq_distill.training.device import device_of_run

logger = logging.getLogger(__name__)

MEASURED = 10
"""Layouts that are measured, besides those that the prediction needs, where there is no target."""


@dataclass(frozen=True)
class Inputs:
    """The teacher and what is known of the texts."""

    teacher: Subject
    """On its device."""
    lengths: tuple[int, int]
    """Mean tokens of sources and outputs."""
    references: Sequence[str] = ()
    """Targets of val; none without data."""


class Planner:
    """Finds a layout.

    Args:
        config: what is asked for.
        inputs: the teacher and the texts.
        workload: what is decoded.
        folder: an empty one, for trimmed teachers, which must be there as long as the planner is used.

    Raises:
        UserError: there is nothing to try, or what is to be tried is not possible.
    """

    def __init__(self, config: PlanConfig, inputs: Inputs, workload: Workload, folder: Path) -> None:
        self._config, self._inputs = config, inputs
        teacher = inputs.teacher.model
        vocabularies = make_vocabularies(config, teacher, inputs.teacher.tokenizer, folder)
        self._axes = axes_of(config, teacher.config, vocabularies)
        whole = whole_vocabulary(config, teacher)
        self._vocabularies: Mapping[int, Vocabulary] = {whole.tokens: whole, **vocabularies}
        engine: Engine = TransformersEngine(workload)
        if config.engine == "ctranslate2":
            engine = CTranslate2Engine(workload, config.precision, device_of_run(config.trainer))
        tokens = workload.rows * workload.output_length
        self._meter = Meter(config.run, engine, inputs.teacher, self._vocabularies, tokens)
        check_layouts(self._axes, self._meter.layout)

    def run_of(self, layout: Layout) -> RunConfig:
        """The run that trains a student of this layout."""
        return with_layout(self._config.run, layout, self._meter.layout, self._vocabularies[layout.vocabulary])

    def in_this_folder(self, layout: Layout) -> RunConfig:
        """The same with the teacher that has been trimmed here."""
        return self._vocabularies[layout.vocabulary].in_run(self.run_of(layout))

    def findings(self) -> Findings:
        """Predict, measure and choose."""
        predicted = self._predict()
        candidates = [predicted[layout] for layout in self._axes.layouts(self._meter.layout)]
        judge = self._judge() if self._config.target.is_set and self._config.data else None
        alone = judge.losses_alone(self._axes) if judge else {}
        before = set(self._meter.found)
        contenders: list[Measured] = []
        if self._config.target.is_set:
            contenders = self._contenders(candidates, judge)
            tried = [*(cost.layout for cost in contenders), *(layout for layout in self._meter.found.keys() - before)]
        else:
            tried = [cost.layout for cost in evenly(frontier(candidates), MEASURED)]
            for layout in tried:
                self._meter.measure([layout])
        losses = self._losses(judge, contenders) if judge else {}
        found = self._meter.found
        return Findings(
            self._axes,
            found[self._meter.layout],
            predicted,
            found,
            set(tried),
            losses,
            alone,
            {tokens: each.length_growth for tokens, each in self._vocabularies.items()},
            min((cost.layout for cost in contenders), key=lambda layout: losses.get(layout, 0.0), default=None),
        )

    def _predict(self) -> dict[Layout, Cost]:
        """What each layout is expected to cost, and each step alone."""
        axes = self._axes.including(self._meter.layout)
        for group in Samples(axes).groups():
            self._meter.measure(group)
        teacher = self._meter.found[self._meter.layout]
        predictor = Predictor(axes, teacher, self._meter.found)
        alone = [layout for layouts in self._axes.alone(teacher.layout).values() for layout in layouts]
        candidates = self._axes.layouts(teacher.layout)
        logger.info("%d layouts are predicted from %d that were measured", len(candidates), len(self._meter.found))
        return {layout: predictor.cost(layout) for layout in (*candidates, *alone)}

    def _judge(self) -> Judge:
        model, tokenizer = self._inputs.teacher.model, self._inputs.teacher.tokenizer
        references = self._inputs.references
        return Judge(self._config.run, self._meter.layout, model.config, tokenizer, self._vocabularies, references)

    def _contenders(self, candidates: Sequence[Cost], judge: Judge | None) -> list[Measured]:
        return find_contenders(
            candidates,
            self._config.target,
            lambda layout: self._meter.measure([layout])[0],
            judge.excess if judge else lambda layout: 0.0,
            self._config.contenders if judge else 1,
            one_depth=not self._config.trial_steps,
        )

    def _losses(self, judge: Judge, contenders: Sequence[Measured]) -> dict[Layout, float]:
        """The losses that decide."""
        steps = self._config.trial_steps
        if not steps and contenders:
            logger.info(
                "without `trial_steps`, losses of different depths cannot be compared: all contenders have the depth "
                "with the most encoder layers, then the most decoder layers, that meets the target"
            )
        losses: dict[Layout, float] = {}
        for cost in contenders:
            name = cost.layout.name(self._meter.layout)
            losses[cost.layout] = judge.loss(cost.layout, steps)
            logger.info("%s: loss on val %.3f after %d steps", name, losses[cost.layout], steps)
        return losses
