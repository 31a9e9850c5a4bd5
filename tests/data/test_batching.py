"""The plan of a run's batches: which rows, in which order, dealt out to whom."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_distill.data.batching import BatchPlan, MicroBatch, weights_by_size
from seq2seq_distill.data.length_batches import batches_by_length, map_by_length
from seq2seq_distill.data.run_plan import RunPlan


def lengths(rows: int, seed: int = 0, longest: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, longest + 1, rows)


def batch_plan(rows: int = 50, **options: Any) -> BatchPlan:
    return BatchPlan(lengths(rows), lengths(rows, seed=1, longest=12), **{"size": 8, **options})


batch_plans = st.builds(
    lambda rows, **options: batch_plan(rows, **options),
    rows=st.integers(1, 90),
    size=st.integers(1, 20),
    max_tokens=st.none() | st.integers(1, 400),
    group_by_length=st.booleans(),
    seed=st.integers(0, 5),
)


def listed(steps: list[np.ndarray]) -> list[list[int]]:
    return [rows.tolist() for rows in steps]


def padded_tokens(plan: BatchPlan, rows: np.ndarray) -> int:
    return len(rows) * int(plan.source_lengths[rows].max() + plan.target_lengths[rows].max())


def dealt(run: RunPlan, world: int, accumulate: int) -> list[list[MicroBatch]]:
    """Micro-batches of every process."""
    return [list(run.micro_batches(rank=rank, world=world, accumulate=accumulate)) for rank in range(world)]


class TestEpoch:
    @given(batch_plans, st.integers(0, 3))
    def test_every_row_comes_once(self, plan: BatchPlan, epoch: int) -> None:
        steps = plan.steps(epoch)
        assert sorted(row for rows in steps for row in rows) == list(range(len(plan.source_lengths)))
        assert all(len(rows) for rows in steps)

    @given(batch_plans)
    def test_order_differs_between_epochs_and_seeds_and_only_there(self, plan: BatchPlan) -> None:
        """H21, H22: the sampler's seed was unused and dynamic batches were the same every epoch."""
        plan = replace(plan, source_lengths=lengths(80), target_lengths=lengths(80, seed=1), size=min(plan.size, 8))
        first = listed(plan.steps(0))
        assert first == listed(replace(plan).steps(0))
        assert first != listed(plan.steps(1))
        assert first != listed(replace(plan, seed=plan.seed + 1).steps(0))

    def test_equally_long_rows_are_shuffled_too(self) -> None:
        same = np.full(40, 7)
        plan = BatchPlan(same, same, size=4, max_tokens=60)
        assert {tuple(sorted(rows)) for rows in listed(plan.steps(0))} != {
            tuple(sorted(rows)) for rows in listed(plan.steps(1))
        }

    @given(st.integers(1, 300), st.booleans(), st.integers(0, 5))
    def test_max_tokens_counts_source_and_target_with_padding(self, most: int, grouped: bool, seed: int) -> None:
        """H22: dynamic batches counted source tokens only."""
        plan = batch_plan(60, max_tokens=most, group_by_length=grouped, seed=seed)
        for rows in plan.steps(0):
            assert len(rows) == 1 or padded_tokens(plan, rows) <= most

    def test_max_tokens_is_made_use_of(self) -> None:
        plan = batch_plan(400, max_tokens=300)
        filled = [padded_tokens(plan, rows) / 300 for rows in plan.steps(0)]
        assert np.mean(filled) > 0.85

    def test_size_is_that_of_every_batch_but_the_last(self) -> None:
        assert sorted(map(len, batch_plan(50, size=8).steps(0))) == [2, 8, 8, 8, 8, 8, 8]

    @given(batch_plans, st.integers(0, 3))
    def test_first_batch_is_the_widest(self, plan: BatchPlan, epoch: int) -> None:
        """Memory errors come at the first step."""
        plan = replace(plan, group_by_length=True)
        widths = [padded_tokens(plan, rows) // len(rows) for rows in plan.steps(epoch)]
        assert widths[0] == max(widths)

    def test_grouping_saves_padding(self) -> None:
        def padded(grouped: bool) -> int:
            plan = batch_plan(400, group_by_length=grouped)
            return sum(padded_tokens(plan, rows) for rows in plan.steps(0))

        assert padded(True) < 0.8 * padded(False)

    def test_tokens_are_counted_without_padding(self) -> None:
        plan = BatchPlan(np.array([3, 1, 4]), np.array([1, 5, 9]), size=2)
        assert plan.tokens(np.array([0, 2])) == (7, 10)


def plain_cut(source: np.ndarray, target: np.ndarray, rows: np.ndarray, max_tokens: int) -> list[list[int]]:
    """Batches of as many rows as fit, row by row."""
    batches: list[list[int]] = []
    for row in rows.tolist():
        grown = [*batches[-1], row] if batches else [row]
        if not batches or len(grown) * (source[grown].max() + target[grown].max()) > max_tokens:
            batches.append([row])
        else:
            batches[-1] = grown
    return batches


class TestCut:
    @given(
        st.lists(st.integers(0, 60), min_size=1, max_size=6), st.integers(1, 900), st.integers(1, 60), st.integers(0, 9)
    )
    def test_batches_of_all_pools_are_those_of_a_walk_over_the_rows(
        self, sizes: list[int], max_tokens: int, longest: int, seed: int
    ) -> None:
        """Once the walk took most of a start with many rows."""
        rows = np.random.default_rng(seed).permutation(sum(sizes)).astype(np.int32)
        pools = np.split(rows, np.cumsum(sizes)[:-1])
        source, target = lengths(len(rows), seed, longest), lengths(len(rows), seed + 1, longest)
        plan = BatchPlan(source, target, size=8, max_tokens=max_tokens)
        expected = [batch for pool in pools if len(pool) for batch in plain_cut(source, target, pool, max_tokens)]
        assert listed(plan._cut(*pools)) == expected


class TestDataWeights:
    @given(st.integers(0, 5), st.booleans())
    def test_weight_is_how_often_a_row_comes(self, epoch: int, grouped: bool) -> None:
        plan = batch_plan(30, sizes=(10, 20), weights=(2.0, 0.5), group_by_length=grouped)
        times = Counter(row for rows in plan.steps(epoch) for row in rows.tolist())
        assert [times[row] for row in range(10)] == [2] * 10
        assert sorted(times[row] for row in range(10, 30)) == [0] * 10 + [1] * 10

    def test_mixed_weight_is_whole_times_and_a_share(self) -> None:
        plan = batch_plan(20, sizes=(20,), weights=(1.25,))
        times = Counter(row for rows in plan.steps(0) for row in rows.tolist())
        assert Counter(times.values()) == {1: 15, 2: 5}

    def test_rows_are_drawn_anew_in_each_epoch(self) -> None:
        plan = batch_plan(40, sizes=(40,), weights=(0.5,))
        drawn = [{row for rows in plan.steps(epoch) for row in rows.tolist()} for epoch in range(2)]
        assert drawn[0] != drawn[1] and {len(rows) for rows in drawn} == {20}

    def test_smallest_share_draws_a_row(self) -> None:
        plan = batch_plan(3, sizes=(3,), weights=(0.01,))
        assert RunPlan(plan, max_epochs=2).total_steps == 2


class TestSourcesApart:
    @given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 9), st.booleans())
    def test_a_step_has_rows_of_one_source(self, sizes: list[int], size: int, grouped: bool) -> None:
        plan = batch_plan(sum(sizes), sizes=sizes, homogeneous_batches=True, size=size, group_by_length=grouped)
        ends = np.cumsum(sizes)
        steps = plan.steps(0)
        assert all(len({int(np.searchsorted(ends, row, side="right")) for row in rows}) == 1 for rows in steps)
        assert sorted(row for rows in steps for row in rows) == list(range(sum(sizes)))
        assert len(steps) == sum(-(-own // size) for own in sizes)

    def test_sources_take_turns(self) -> None:
        for grouped in (True, False):
            plan = batch_plan(80, sizes=(40, 40), homogeneous_batches=True, size=2, group_by_length=grouped)
            sources = [int(rows[0] >= 40) for rows in plan.steps(0)]
            assert sum(a != b for a, b in zip(sources, sources[1:], strict=False)) > 10

    def test_rows_drawn_by_size_to_a_power(self) -> None:
        assert weights_by_size([900, 100], 1.0) == [1.0, 1.0]
        assert weights_by_size([7, 11, 13], 1.0) == [1.0, 1.0, 1.0]
        assert weights_by_size([900, 100], 0.0) == [pytest.approx(500 / 900), 5.0]
        assert weights_by_size([900, 100], 0.5) == [pytest.approx(750 / 900), 2.5]  # 30 to 10 of 1,000 rows
        plan = batch_plan(40, sizes=(36, 4), weights=weights_by_size([36, 4], 0.5), homogeneous_batches=True)
        times = Counter(int(row >= 36) for rows in plan.steps(0) for row in rows)
        assert times == {0: 30, 1: 10}


class TestRun:
    @given(batch_plans, st.integers(1, 3), st.integers(1, 4))
    def test_every_row_once_per_epoch_for_any_number_of_processes(
        self, plan: BatchPlan, world: int, accumulate: int
    ) -> None:
        run = RunPlan(plan, max_epochs=2)
        seen = Counter(row for own in dealt(run, world, accumulate) for micro in own for row in micro.rows)
        assert seen == dict.fromkeys(range(len(plan.source_lengths)), 2)

    @given(batch_plans, st.integers(1, 3), st.integers(1, 4))
    def test_steps_are_the_same_for_any_number_of_processes(self, plan: BatchPlan, world: int, accumulate: int) -> None:
        """Rows and token counts of an optimiser step are the whole plan's; only who has which differs."""
        run = RunPlan(plan, max_steps=7)
        parts = dealt(run, world, accumulate)
        whole = [(sorted(m.rows), m.source_tokens, m.target_tokens) for m in run.micro_batches()]
        assert {len(own) for own in parts} == {7 * accumulate} and len(whole) == 7
        for step, (rows, source, target) in enumerate(whole):
            turns = range(step * accumulate, (step + 1) * accumulate)
            micros = [own[turn] for own in parts for turn in turns]
            assert sorted(row for micro in micros for row in micro.rows) == rows
            assert {(micro.source_tokens, micro.target_tokens) for micro in micros} == {(source, target)}
            sizes = [len(micro.rows) for micro in micros]
            assert max(sizes) - min(sizes) <= 1
            assert (source, target) == plan.tokens(np.array(rows))

    @given(batch_plans, st.integers(1, 2), st.integers(1, 3), st.integers(0, 12))
    def test_starting_later_gives_the_tail(self, plan: BatchPlan, world: int, accumulate: int, start: int) -> None:
        run, fresh = RunPlan(plan, max_steps=6), RunPlan(plan, max_steps=6)
        for rank in range(world):
            deal = {"rank": rank, "world": world, "accumulate": accumulate}
            assert list(fresh.micro_batches(start, **deal)) == list(run.micro_batches(**deal))[start:]

    @pytest.mark.parametrize(
        ("options", "steps"),
        [
            ({}, 5),
            ({"max_epochs": 3}, 15),
            ({"max_epochs": 2.4}, 12),
            ({"max_epochs": 0.2}, 1),
            ({"max_epochs": 0.01}, 1),
            ({"max_steps": 7, "max_epochs": 3}, 7),
            ({"limit": 0.4, "max_epochs": 3}, 6),
            ({"limit": 3.0, "max_epochs": 2}, 6),
            ({"limit": 0.01}, 1),
            ({"limit": 99, "max_epochs": 2}, 10),
        ],
    )
    def test_total_steps(self, options: dict[str, Any], steps: int) -> None:
        """H18: max_steps, limits and dynamic batches went uncounted."""
        run = RunPlan(batch_plan(40), **options)
        assert run.total_steps == steps
        assert len(list(run.micro_batches())) == steps

    def test_total_steps_of_dynamic_batches(self) -> None:
        """H18: their number differs from epoch to epoch, and is known nevertheless."""
        plan = batch_plan(200, max_tokens=200, group_by_length=False)
        assert RunPlan(plan, max_epochs=3).total_steps == sum(len(plan.steps(epoch)) for epoch in range(3))

    def test_limit_takes_other_rows_in_each_epoch(self) -> None:
        run = RunPlan(batch_plan(400), limit=2, max_epochs=2)
        rows = [micro.rows for micro in run.micro_batches()]
        assert set(rows[0] + rows[1]) != set(rows[2] + rows[3])

    @pytest.mark.parametrize(
        ("interval", "steps"), [(1.0, 5), (0.5, 2), (0.2, 1), (0.01, 1), (3.0, 3), (12.0, 12), (99.0, 15)]
    )
    def test_steps_between_validations(self, interval: float, steps: int) -> None:
        assert RunPlan(batch_plan(40), max_epochs=3, val_interval=interval).steps_between_validations == steps

    def test_data_epoch(self) -> None:
        run = RunPlan(batch_plan(40), max_epochs=3)
        assert [run.data_epoch(step) for step in (0, 1, 5, 7, 15)] == [0, 0.2, 1, 1.4, 3]


class TestByLength:
    def test_batches_are_of_like_length_and_within_the_budget(self):
        batches = batches_by_length([3, 9, 1, 4, 4, 20], max_tokens=20)
        assert batches == [[5], [1, 3], [4, 0, 2]]
        assert batches_by_length([3, 9, 1, 4, 4, 20], size=4) == [[5, 1, 3, 4], [0, 2]]
        assert batches_by_length([], max_tokens=20) == batches_by_length([], size=4) == []

    def test_results_come_in_the_order_of_the_rows(self):
        batches = []

        def double(rows):
            batches.append(rows)
            return [2 * row for row in rows]

        assert map_by_length(double, [3, 9, 1, 4], [3, 9, 1, 4], size=2) == [6, 18, 2, 8]
        assert batches == [[9, 4], [3, 1]]


class TestStepCounts:
    """With many rows a plan takes seconds: a second start makes that of its own epoch alone."""

    def test_are_kept_from_start_to_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        options: dict[str, Any] = {"max_epochs": 2.5, "val_interval": 0.5, "counts_folder": tmp_path}
        plan = batch_plan(90, max_tokens=200)
        first = RunPlan(plan, **options)
        planned = []
        steps = BatchPlan.steps
        monkeypatch.setattr(BatchPlan, "steps", lambda self, epoch: planned.append(epoch) or steps(self, epoch))
        second = RunPlan(plan, **options)
        assert second.total_steps == first.total_steps and not planned
        assert second.steps_between_validations == first.steps_between_validations
        last = second.total_steps - 1
        assert second.rows(last).tolist() == first.rows(last).tolist() and planned == [2]
        assert RunPlan(plan, **options, limit=3).total_steps == 3 + 3 + round(0.5 * 3)

    def test_of_another_plan_are_others(self, tmp_path: Path) -> None:
        plans = [batch_plan(90), batch_plan(91), batch_plan(90, seed=1), batch_plan(90, max_tokens=99)]
        assert len({plan.key for plan in plans}) == 4 and plans[0].key == batch_plan(90).key

    @pytest.mark.parametrize("content", ["", "[]", '{"0": "x"}', "{"])
    def test_damage_costs_time_alone(self, tmp_path: Path, content: str) -> None:
        plan = batch_plan(90)
        path = tmp_path / f"{plan.key}.json"
        path.write_text(content)
        assert (
            RunPlan(plan, max_epochs=2, counts_folder=tmp_path).total_steps == RunPlan(plan, max_epochs=2).total_steps
        )
        (tmp_path / "file").write_text("")
        assert RunPlan(plan, counts_folder=tmp_path / "file").total_steps == RunPlan(plan).total_steps
