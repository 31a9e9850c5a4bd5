"""Which teacher layers a student takes and which ones supervise it. Integers only: no torch is imported here.

Layers are counted from 0. Where a table exists it is the published one of DistilBART (arXiv 2010.13002) and
its relatives; every other pair of depths follows one general rule, so no depth from 1 to the teacher's is an
error.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from seq2seq_distill.utils.errors import ModelError

Layers = tuple[int, ...]

COPY: Final[Mapping[tuple[int, int], Layers]] = MappingProxyType(
    {
        (6, 1): (0,),
        (6, 2): (0, 5),
        (6, 3): (0, 2, 5),
        (6, 4): (0, 1, 3, 5),
        (12, 1): (0,),
        (12, 2): (0, 6),
        (12, 3): (0, 6, 11),
        (12, 4): (0, 4, 8, 11),
        (12, 6): (0, 2, 4, 7, 9, 11),
        (12, 9): (0, 1, 2, 4, 5, 7, 9, 10, 11),
        (16, 1): (0,),
        (16, 2): (0, 15),
        (16, 3): (0, 8, 15),
        (16, 4): (0, 5, 10, 15),
        (16, 6): (0, 3, 6, 9, 12, 15),
        (16, 8): (0, 2, 4, 6, 8, 10, 12, 15),
        (16, 9): (0, 1, 3, 5, 7, 9, 11, 13, 15),
        (16, 12): (0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15),
    }
)

SUPERVISE: Final[Mapping[tuple[int, int], Layers]] = MappingProxyType(
    {
        (6, 1): (5,),
        (6, 2): (3, 5),
        (6, 3): (1, 4, 5),
        (6, 4): (1, 2, 4, 5),
        (12, 1): (11,),
        (12, 2): (5, 11),
        (12, 3): (3, 7, 11),
        (12, 6): (1, 3, 5, 8, 10, 11),
        (16, 1): (15,),
        (16, 4): (4, 9, 12, 15),
        (16, 8): (1, 3, 5, 7, 9, 11, 13, 15),
    }
)


def check_depth(teacher_depth: int, student_depth: int, subject: str = "student depth") -> None:
    """Raise ModelError unless 1 <= student_depth <= teacher_depth; `subject` opens the message."""
    if student_depth > teacher_depth:
        raise ModelError(
            f"{subject} {student_depth} exceeds the teacher's {teacher_depth} layers: choose 1 to {teacher_depth}"
        )
    if student_depth < 1:
        raise ModelError(f"{subject} {student_depth} is less than one layer: choose 1 to {teacher_depth}")


def check_layers(layers: Sequence[int], teacher_depth: int, subject: str = "layer ids") -> Layers:
    """Explicit layer ids as a tuple. Raises ModelError unless they increase within the teacher's range."""
    shown = " ".join(map(str, layers))
    if not layers:
        raise ModelError(f"{subject} names no layer: choose from 0 to {teacher_depth - 1}")
    for layer in layers:
        if not 0 <= layer < teacher_depth:
            raise ModelError(
                f"{subject} {shown}: the teacher has no layer {layer}: choose from 0 to {teacher_depth - 1}"
            )
    if any(left >= right for left, right in zip(layers, layers[1:], strict=False)):
        raise ModelError(f"{subject} {shown}: list each layer once, in increasing order")
    return tuple(layers)


def copy_layers(teacher_depth: int, student_depth: int, subject: str = "student depth") -> Layers:
    """Teacher layers that a student of `student_depth` starts from.

    The table where it has the pair, else evenly spaced with the first and the last layer kept; all layers
    when the depths are equal, (0,) for depth 1. Raises ModelError, which opens with `subject`, if the depth is
    not 1 to the teacher's.
    """
    check_depth(teacher_depth, student_depth, subject)
    if (teacher_depth, student_depth) in COPY:
        return COPY[teacher_depth, student_depth]
    if student_depth == 1:
        return (0,)
    gaps = student_depth - 1
    # i * (teacher_depth - 1) / gaps, rounded half up in integers
    return tuple((2 * i * (teacher_depth - 1) + gaps) // (2 * gaps) for i in range(student_depth))


def first_layers(n: int) -> Layers:
    """The first `n` layers."""
    return tuple(range(n))


def supervise_forward(teacher_depth: int, student_depth: int, subject: str = "student depth") -> Layers:
    """For each student layer the teacher layer that ends the block of layers it stands for.

    The table where it has the pair, else evenly spaced block ends; the last is always the teacher's last.
    Raises ModelError, which opens with `subject`, if the depth is not 1 to the teacher's.
    """
    check_depth(teacher_depth, student_depth, subject)
    if (teacher_depth, student_depth) in SUPERVISE:
        return SUPERVISE[teacher_depth, student_depth]
    return tuple((i + 1) * teacher_depth // student_depth - 1 for i in range(student_depth))


def supervised_pairs(copied: Sequence[int], teacher_depth: int) -> tuple[tuple[int, int], ...]:
    """Pairs (student layer, teacher layer): each with the one it was copied from, the last with the last."""
    targets = (*copied[:-1], teacher_depth - 1)
    return tuple(enumerate(targets))
