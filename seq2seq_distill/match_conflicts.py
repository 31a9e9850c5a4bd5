"""Which keys of an entry of --matches do not go together, and which other options do not go with them."""

from collections.abc import Iterator
from typing import Any

from seq2seq_distill.errors import shown

LOSSES = {
    "hidden": ("mse", "cosine", "pkd", "pkd_first", "mmd", "gram"),
    "attention": ("mse", "ce"),
}
"""By which features can be compared."""


def match_problems(config: Any) -> Iterator[str]:
    """What does not go together within an entry, and with the entries."""
    for number, match in enumerate(config.matches):
        yield from _entry_problems(f"--matches entry {number}", match)
    if config.matches and config.method != "kd":
        yield f"--matches compares with a teacher, and --method {config.method} has none: leave one out"
    elif config.matches and config.data and config.teacher is None:
        yield "--matches compares with a teacher: add --teacher, or leave it out"
    if config.matches and config.teacher_cache:
        yield (
            f"--matches needs inner states, which --teacher_cache {shown(config.teacher_cache)} does not hold: "
            "leave one out"
        )
    if config.optim.projection_lr is not None and not any(match.projection for match in config.matches):
        yield f"--optim.projection_lr {config.optim.projection_lr}: no entry of --matches has a projection, add one"


def _entry_problems(place: str, match: Any) -> Iterator[str]:
    if (match.weight or 0) < 0:
        yield f"{place}, weight {match.weight} is too small: choose 0 or more"
    if match.side == "encoder" and match.feature == "cross_attention":
        yield f"{place}, feature cross_attention: an encoder has none, choose self_attention, or side decoder"
    losses = LOSSES["hidden" if match.feature == "hidden" else "attention"]
    if match.loss not in losses:
        yield f"{place}, loss {match.loss} does not compare {match.feature}: choose {', '.join(losses)}"
    if match.projection and match.feature != "hidden":
        yield f"{place}, projection {match.projection}: attention weights have no width to map, leave it out"
    yield from _layer_problems(place, match)


def _layer_problems(place: str, match: Any) -> Iterator[str]:
    given = {key: value for key in ("student", "teacher") if (value := getattr(match, key)) is not None}
    if match.layers and given:
        key, value = next(iter(given.items()))
        yield f"{place}, layers {match.layers} and {key} {shown(value)}: give the one or the other"
    elif match.layers and match.loss == "gram":
        yield f"{place}, layers {match.layers}: gram compares the way between two layers, give student and teacher"
    elif not match.layers and len(given) < 2:
        missing = " and ".join(key for key in ("student", "teacher") if key not in given)
        yield f"{place} lacks {missing}: give a layer, or layers copied, spread or last instead of both"
    elif match.loss == "gram":
        for key, value in given.items():
            if not isinstance(value, list) or len(value) != 2:
                yield f"{place}, {key} {shown(value)}: gram compares the way between two layers, such as [0, -1]"
    else:
        for key, value in given.items():
            if isinstance(value, list):
                yield f"{place}, {key} {shown(value)}: {match.loss} compares single layers, give one, or loss gram"
