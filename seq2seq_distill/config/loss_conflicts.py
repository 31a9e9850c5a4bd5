"""Which options of what is learned from teachers do not go together."""

from collections.abc import Iterator
from typing import Any

from seq2seq_distill.config.bounds import join_values
from seq2seq_distill.utils.errors import format_value

LOSSES = {
    "hidden": ("mse", "cosine", "pkd", "pkd_first", "mmd", "gram"),
    "attention": ("mse", "ce"),
}
"""By which an entry of --matches can compare features."""


def teacher_problems(config: Any) -> Iterator[str]:
    """Of what is learned from the teacher, and what a cache holds of it."""
    loss, adaptive = config.loss, config.loss.schedule.temperature in ("flsw", "cwsm")
    lowest, highest = loss.schedule.temperature_range
    if adaptive and not lowest <= loss.temperature <= highest:
        yield (
            f"--loss.temperature {loss.temperature} is outside of --loss.schedule.temperature_range "
            f"{lowest} {highest}: choose one within it"
        )
    yield from _ensemble_problems(config)
    yield from _source_problems(config)
    yield from _on_policy_problems(config)
    yield from _match_problems(config)
    if not config.teacher_cache:
        return
    cache = f"--teacher_cache {format_value(config.teacher_cache)}"
    if config.method != "kd":
        yield f"{cache} does not go with --method {config.method}: leave one out"
    if loss.alpha_hid:
        yield (
            f"--loss.alpha_hid {loss.alpha_hid} needs hidden states, which {cache} does not hold: "
            "set --loss.alpha_hid 0, or leave the cache out"
        )
    if loss.schedule.temperature != "constant":
        yield (
            f"--loss.schedule.temperature {loss.schedule.temperature} needs more temperatures than the one of {cache}: "
            "choose constant, or leave the cache out"
        )
    if "mse" in loss.divergences:
        yield f"--loss.divergence mse needs logits, which {cache} does not hold: choose another, or leave the cache out"
    if config.cache.draws is not None and loss.divergences.keys() != {"forward_kl"}:
        yield (
            f"--loss.divergence {' '.join(loss.divergences)} cannot be told from the few tokens of --cache.draws "
            f"{config.cache.draws}: choose forward_kl, or --cache.top_k"
        )


def _ensemble_problems(config: Any) -> Iterator[str]:
    """Of several teachers."""
    teachers, weights = config.ensemble.teachers, config.ensemble.weights
    if weights is not None and len(weights) != 1 + len(teachers):
        yield (
            f"--ensemble.weights {join_values(weights)} does not fit --teacher and {len(teachers)} of "
            "--ensemble.teachers: "
            "give one weight for each"
        )
    if not teachers:
        return
    named = f"--ensemble.teachers {join_values(teachers)}"
    if config.method != "kd":
        yield f"{named} does not go with --method {config.method}: leave one out"
    elif config.data and config.teacher is None:
        yield f"{named} comes without --teacher: name the first there"
    if config.teacher_cache:
        yield f"{named} does not go with --teacher_cache {format_value(config.teacher_cache)}: leave one out"
    if config.trainer.shard_teacher:
        yield f"{named} does not go with --trainer.shard_teacher: leave one out"
    if config.loss.schedule.temperature in ("flsw", "cwsm"):
        yield (
            f"--loss.schedule.temperature {config.loss.schedule.temperature} follows one teacher, not {named}: "
            "choose constant, linear or cosine"
        )


def _source_problems(config: Any) -> Iterator[str]:
    """Of sources of the teacher's own."""
    own, usual = config.teacher_source, (config.encode.prefix or "", config.encode.max_source_length, config.src_lang)
    given = {name: value for name, value in vars(own).items() if value is not None}
    if given and config.sources and all(own.teacher is None for own in config.each_task()):
        name, value = next(iter(given.items()))
        yield f"--teacher_source.{name} {format_value(value)} comes without --teacher: name one, or leave it out"
    if any(value not in (None, other) for value, other in zip(vars(own).values(), usual, strict=True)):
        yield from position_problems(config)


def position_problems(config: Any) -> Iterator[str]:
    """Of what compares position by position over the source, where teacher and student read different sources."""
    why = "compares source positions, but teacher and student read different sources"
    if config.method != "kd":
        return
    if config.loss.alpha_hid:
        yield f"--loss.alpha_hid {config.loss.alpha_hid} {why}: set it to 0, and use --matches with side decoder"
    for number, match in enumerate(config.matches):
        if match.side == "encoder":
            yield f"--matches entry {number}, side encoder {why}: choose side decoder"
        elif match.feature == "cross_attention":
            yield f"--matches entry {number}, feature cross_attention {why}: choose hidden or self_attention"


def _on_policy_problems(config: Any) -> Iterator[str]:
    """Of targets that the student samples."""
    share = f"--loss.on_policy {config.loss.on_policy}"
    if not config.loss.on_policy:
        return
    if config.method != "kd":
        yield f"{share} lets a teacher judge, and --method {config.method} has none: leave it out"
    elif not config.loss.alpha_ce:
        yield f"{share} learns by ce_loss, and --loss.alpha_ce is 0: raise it"
    if config.teacher_cache:
        yield (
            f"{share} needs the teacher itself, not --teacher_cache {format_value(config.teacher_cache)}: leave one out"
        )
    if str(config.trainer.strategy) == "fsdp2":
        yield f"{share} decodes in training, which --trainer.strategy fsdp2 cannot: choose ddp"


def _match_problems(config: Any) -> Iterator[str]:
    """What does not go together within an entry, and with the entries."""
    for number, match in enumerate(config.matches):
        yield from _entry_problems(f"--matches entry {number}", match)
    if config.matches and config.method != "kd":
        yield f"--matches compares with a teacher, and --method {config.method} has none: leave one out"
    elif config.matches and config.data and config.teacher is None:
        yield "--matches compares with a teacher: add --teacher, or leave it out"
    if config.matches and config.teacher_cache:
        yield (
            f"--matches needs inner states, which --teacher_cache {format_value(config.teacher_cache)} does not hold: "
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
        yield f"{place}, layers {match.layers} and {key} {format_value(value)}: give the one or the other"
    elif match.layers and match.loss == "gram":
        yield f"{place}, layers {match.layers}: gram compares the way between two layers, give student and teacher"
    elif not match.layers and len(given) < 2:
        missing = " and ".join(key for key in ("student", "teacher") if key not in given)
        yield f"{place} lacks {missing}: give a layer, or layers copied, spread or last instead of both"
    elif match.loss == "gram":
        for key, value in given.items():
            if not isinstance(value, list) or len(value) != 2:
                yield f"{place}, {key} {format_value(value)}: gram compares the way between two layers, such as [0, -1]"
    else:
        for key, value in given.items():
            if isinstance(value, list):
                yield (
                    f"{place}, {key} {format_value(value)}: {match.loss} compares single layers, give one, or loss gram"
                )
