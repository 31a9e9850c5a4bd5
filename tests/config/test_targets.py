"""Targets, and losses that follow from the teacher: the rules, and what does not go together."""

from dataclasses import fields, replace
from typing import Any

import pytest

from seq2seq_distill.config import LabelConfig, LabelOptions, LossConfig, RunConfig, TaskConfig, find_problems
from seq2seq_distill.config.losses import FLAT, ResolvedLossConfig
from seq2seq_distill.config.run_record import as_it_was_meant


def messages(**changes: Any) -> list[str]:
    config = RunConfig(task="translation", teacher="t", data=["d"])
    return [problem.message for problem in find_problems(replace(config, **changes))]


class TestOpenLosses:
    @pytest.mark.parametrize(
        ("given", "entropy", "expected"),
        [
            ({}, None, (2.0, 0.8, 0.2)),
            ({}, FLAT, (2.0, 0.8, 0.2)),
            ({}, FLAT + 0.01, (0.5, 1.6, 0.2)),
            ({"temperature": 1.0}, 9.0, (1.0, 0.8, 0.2)),
            ({"temperature": 0.5}, None, (0.5, 1.6, 0.2)),  # the weight goes with the temperature, whoever chose it
            ({"alpha_ce": 0.3}, 9.0, (0.5, 0.3, 0.2)),
            ({"alpha_ce": 0.0, "alpha_mlm": 0.0}, None, (2.0, 0.0, 0.0)),
        ],
    )
    def test_only_what_is_missing_follows(self, given: Any, entropy: Any, expected: Any) -> None:
        found = LossConfig(**given, beta=0.3).resolved(entropy)
        assert (found.temperature, found.alpha_ce, found.alpha_mlm, found.beta) == (*expected, 0.3)
        assert isinstance(found, ResolvedLossConfig) and found.resolved(9.0) == found

    def test_weights_that_leave_nothing_are_still_found(self) -> None:
        assert messages(loss=LossConfig(alpha_ce=0.0)) == []
        assert len(messages(loss=LossConfig(alpha_ce=0.0, alpha_mlm=0.0))) == 1


class TestOptions:
    def test_labels_of_a_run_are_those_of_the_command(self) -> None:
        """Name, type, default and bound: one declaration."""
        command = {field.name: field for field in fields(LabelConfig)}
        for field in fields(LabelOptions):
            assert (command[field.name].type, command[field.name].metadata) == (field.type, field.metadata)
            assert getattr(LabelConfig(), field.name) == getattr(LabelOptions(), field.name)

    def test_what_the_teacher_cannot_write_is_refused(self) -> None:
        task = TaskConfig(name="a", data=["d"], teacher="t")
        refused = {
            "`tasks`": {"data": None, "tasks": [task]},
            "`teacher`": {"teacher": None, "student": replace(RunConfig().student, path="s")},
            "`data_weights` 1.0 0.5": {"data": ["d", "e"], "data_weights": [1.0, 0.5]},
        }
        for targets in ("teacher", "both"):
            for name, changes in refused.items():
                assert messages(**changes) == []
                (line,) = messages(targets=targets, **changes)
                assert line.startswith(f"`targets` {targets}") and name in line
            assert messages(targets=targets, data=["d", "e", "f"], data_weights=[0.5, 0.0, 0.5]) == []

    def test_label_options_name_their_group(self) -> None:
        (line,) = messages(label=LabelOptions(keep="best-bleu"))
        assert line == "`label.keep` best-bleu needs several candidates, and `label.n_best` is 1: raise it"
        (line,) = messages(label=LabelOptions(n_best=5), eval=replace(RunConfig().eval, beams=4))
        assert line.startswith("`label.n_best` 5 needs as many beams, not `eval.beams` 4")
        (line,) = messages(label=LabelOptions(drop_fraction=0.1))
        assert line == "`label.drop_fraction` 0.1 needs `label.backward_model`: name one"


def test_a_run_yaml_of_before_means_the_targets_of_the_data() -> None:
    assert as_it_was_meant({"task": "translation", "provenance": {}})["targets"] == "reference"
    assert as_it_was_meant({"targets": "teacher", "provenance": {}})["targets"] == "teacher"
    recipe = {"task": "translation"}
    assert as_it_was_meant(recipe) == recipe
