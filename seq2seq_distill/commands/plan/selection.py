"""Which layouts that meet a target are compared by their losses: numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seq2seq_distill.commands.plan.layouts import Cost, Layout, Measured, Target

SLACK = 1.1
"""By how much a layout may miss the target of speed in the prediction and yet be measured."""
TRIES = 3
"""Layouts that are measured for each contender, at most."""


def find_contenders(
    predicted: Sequence[Cost],
    target: Target,
    measure: Callable[[Layout], Measured],
    excess: Callable[[Layout], float],
    count: int,
    *,
    one_depth: bool,
) -> list[Measured]:
    """Layouts that meet the target when measured, and of which none could be larger.

    A layout that another one holds, which meets the target too, is never tried. Of the others the next is one of the
    depth that has the fewest contenders yet; of these, one with the most encoder layers, then decoder layers; of these,
    the one with the least `excess`, then with the most parameters.

    Args:
        predicted: what each layout is expected to cost.
        target: of the student.
        measure: what a layout really costs.
        excess: how much loss its widths and its vocabulary are expected to add.
        count: of contenders, at most.
        one_depth: whether all must have the depths of the first.
    """
    pool = [cost for cost in predicted if target.is_met(cost, SLACK)]
    found: list[Measured] = []
    tries = 0

    def preference(cost: Cost) -> tuple[float, ...]:
        layout = cost.layout
        same_depth = sum(each.layout.depths == layout.depths for each in found)
        return same_depth, -layout.encoder_layers, -layout.decoder_layers, excess(layout), -cost.parameters

    while pool and len(found) < count and (not found or tries < TRIES * count):
        tries += 1
        chosen = min(_largest(pool), key=preference)
        pool.remove(chosen)
        measured = measure(chosen.layout)
        if not target.is_met(measured):
            continue
        found.append(measured)
        pool = [cost for cost in pool if not chosen.layout.holds(cost.layout)]
        if one_depth:
            pool = [cost for cost in pool if cost.layout.depths == chosen.layout.depths]
    return found


def _largest(pool: Sequence[Cost]) -> list[Cost]:
    """Those that no other holds."""
    return [cost for cost in pool if not any(other is not cost and other.layout.holds(cost.layout) for other in pool)]
