"""Which options of what the student learns from its teachers contradict each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields

from seq2seq_distill.config.losses import FeatureLossConfig, LossConfig
from seq2seq_distill.config.noise import CHANGES_TARGETS
from seq2seq_distill.config.problems import Problem, join_values
from seq2seq_distill.config.run import RunConfig
from seq2seq_distill.utils.errors import format_value

LOSSES = {
    "hidden": ("mse", "cosine", "pkd", "pkd_first", "mmd", "gram"),
    "attention": ("mse", "ce"),
}
"""The losses that an entry of `matches` can compare features by."""


@dataclass(frozen=True)
class DistillationOptions:
    """What a student learns from its teacher where no run is around them; to be validated by itself."""

    loss: LossConfig = field(default_factory=LossConfig)
    matches: list[FeatureLossConfig] = field(default_factory=list)

    def conflicts(self) -> Iterator[Problem]:
        """What does not go together."""
        yield from weight_conflicts(self.loss, self.matches)
        yield from _temperature_conflicts(self.loss)
        yield from _entries_conflicts(self.matches)


def weight_conflicts(loss: LossConfig, matches: Sequence[FeatureLossConfig]) -> Iterator[Problem]:
    """Weights that leave nothing to learn."""
    loss = loss.resolved()
    weights = (loss.alpha_ce, loss.alpha_mlm, loss.alpha_hid, loss.alpha_chunk)
    if not any(weights) and not any(match.weight for match in matches):
        yield Problem(
            ("loss.alpha_ce", "loss.alpha_mlm", "loss.alpha_hid", "loss.alpha_chunk", "matches"),
            "`loss.alpha_ce` 0, `loss.alpha_mlm` 0 and `loss.alpha_hid` 0 leave no loss to train with: raise one",
        )


def teacher_conflicts(config: RunConfig) -> Iterator[Problem]:
    """Everything that is learned from teachers, and what a cache of their outputs holds of it."""
    yield from _temperature_conflicts(config.loss)
    yield from _missing_teacher_conflicts(config)
    yield from _ensemble_conflicts(config)
    yield from _teacher_source_conflicts(config)
    yield from _noise_conflicts(config)
    yield from _on_policy_conflicts(config)
    yield from _match_conflicts(config)
    yield from _cache_conflicts(config)


def _temperature_conflicts(loss: LossConfig) -> Iterator[Problem]:
    schedule = loss.schedule
    lowest, highest = schedule.temperature_range
    temperature = loss.resolved().temperature
    if schedule.temperature in ("flsw", "cwsm") and not lowest <= temperature <= highest:
        yield Problem(
            ("loss.temperature", "loss.schedule.temperature_range", "loss.schedule.temperature"),
            f"`loss.temperature` {temperature} is outside `loss.schedule.temperature_range` "
            f"{lowest} {highest}: choose a temperature within it",
        )


def _cache_conflicts(config: RunConfig) -> Iterator[Problem]:
    if not config.teacher_cache:
        return
    loss, cache = config.loss, f"`teacher_cache` {format_value(config.teacher_cache)}"
    if config.method != "kd":
        yield Problem(
            ("teacher_cache", "method"), f"{cache} is not used with `method` {config.method}: leave one of them out"
        )
    if loss.alpha_hid:
        yield Problem(
            ("loss.alpha_hid", "teacher_cache"),
            f"`loss.alpha_hid` {loss.alpha_hid} needs hidden states, which {cache} does not hold: "
            "set `loss.alpha_hid` 0, or leave the cache out",
        )
    if loss.schedule.temperature != "constant":
        yield Problem(
            ("loss.schedule.temperature", "teacher_cache"),
            f"`loss.schedule.temperature` {loss.schedule.temperature} needs more temperatures than the one that "
            f"{cache} holds: choose constant, or leave the cache out",
        )
    if "mse" in loss.divergences:
        yield Problem(
            ("loss.divergence", "teacher_cache"),
            f"`loss.divergence` mse needs logits, which {cache} does not hold: choose another, or leave the cache out",
        )
    if config.cache.draws is not None and loss.divergences.keys() != {"forward_kl"}:
        yield Problem(
            ("loss.divergence", "cache.draws", "teacher_cache"),
            f"`loss.divergence` {' '.join(loss.divergences)} cannot be estimated from the sampled tokens of "
            f"`cache.draws` {config.cache.draws}: choose forward_kl, or use `cache.top_k`",
        )


def _ensemble_conflicts(config: RunConfig) -> Iterator[Problem]:
    teachers, weights = config.ensemble.teachers, config.ensemble.weights
    if weights is not None and len(weights) != 1 + len(teachers):
        yield Problem(
            ("ensemble.weights", "ensemble.teachers", "teacher"),
            f"`ensemble.weights` {join_values(weights)} does not fit `teacher` and the {len(teachers)} of "
            "`ensemble.teachers`: give one weight for each",
        )
    if not teachers:
        return
    opening = f"`ensemble.teachers` {join_values(teachers)}"
    if config.method != "kd":
        yield Problem(
            ("ensemble.teachers", "method"), f"{opening} are not used with `method` {config.method}: leave one out"
        )
    elif config.data and config.teacher is None:
        yield Problem(
            ("ensemble.teachers", "teacher", "data"), f"{opening} is given without `teacher`: name the first there"
        )
    if config.teacher_cache:
        yield Problem(
            ("ensemble.teachers", "teacher_cache"),
            f"{opening} cannot be combined with `teacher_cache` {format_value(config.teacher_cache)}: leave one out",
        )
    if config.trainer.shard_teacher:
        yield Problem(
            ("ensemble.teachers", "trainer.shard_teacher"),
            f"{opening} cannot be combined with `trainer.shard_teacher`: leave one out",
        )
    if config.loss.schedule.temperature in ("flsw", "cwsm"):
        yield Problem(
            ("loss.schedule.temperature", "ensemble.teachers"),
            f"`loss.schedule.temperature` {config.loss.schedule.temperature} follows a single teacher, not {opening}: "
            "choose constant, linear or cosine",
        )


OF_TEACHER_SOURCE = ("teacher_source.prefix", "teacher_source.max_length", "teacher_source.src_lang")


def _teacher_source_conflicts(config: RunConfig) -> Iterator[Problem]:
    """Sources that the teacher alone reads."""
    of_student = {
        "prefix": config.encode.prefix or "",
        "max_length": config.encode.max_source_length,
        "src_lang": config.src_lang,
    }
    given = {name: value for name, value in vars(config.teacher_source).items() if value is not None}
    if given and config.sources and all(task.teacher is None for task in config.each_task()):
        name, value = next(iter(given.items()))
        yield Problem(
            (f"teacher_source.{name}", "teacher", "tasks"),
            f"`teacher_source.{name}` {format_value(value)} is given without `teacher`: name one, or leave it out",
        )
    if any(value != of_student[name] for name, value in given.items()):
        yield from position_conflicts(config)


def _noise_conflicts(config: RunConfig) -> Iterator[Problem]:
    """Losses that need the sources or the targets of the data."""
    noise = config.noise
    if noise.is_on:
        yield from position_conflicts(config, tuple(f"noise.{each.name}" for each in fields(noise)))
    if noise.changes_targets and config.loss.alpha_chunk:
        kinds = [kind for kind in CHANGES_TARGETS if kind in noise.rates]
        rates = ", ".join(f"`noise.{kind}` {noise.rates[kind]}" for kind in kinds)
        yield Problem(
            ("loss.alpha_chunk", "noise.preset", *(f"noise.{kind}" for kind in kinds)),
            f"`loss.alpha_chunk` {config.loss.alpha_chunk} is for the targets of the data, which {rates} "
            "change: set these to 0, or leave it out",
        )


def position_conflicts(config: RunConfig, options: tuple[str, ...] = OF_TEACHER_SOURCE) -> Iterator[Problem]:
    """Losses that compare source positions, which are not the same where teacher and student read different sources.

    Args:
        config: the run's.
        options: why they do.
    """
    reason = "compares source positions, but teacher and student read different sources"
    if config.method != "kd":
        return
    if config.loss.alpha_hid:
        yield Problem(
            ("loss.alpha_hid", *options),
            f"`loss.alpha_hid` {config.loss.alpha_hid} {reason}: set it to 0, and use `matches` with side decoder",
        )
    for number, match in enumerate(config.matches):
        if match.side == "encoder":
            message = f"side encoder {reason}: choose side decoder"
        elif match.feature == "cross_attention":
            message = f"feature cross_attention {reason}: choose hidden or self_attention"
        else:
            continue
        yield Problem(("matches", *options), f"`matches` entry {number}, {message}")


def _missing_teacher_conflicts(config: RunConfig) -> Iterator[Problem]:
    """What is to be learned from a teacher that there is not."""
    if config.method != "kd" or config.teacher or config.tasks or config.teacher_cache or not config.data:
        return
    for name in ("alpha_hid", "on_policy"):
        if value := getattr(config.loss, name):
            yield Problem(
                (f"loss.{name}", "teacher"), f"`loss.{name}` {value} needs a teacher: name one, or leave the option out"
            )


def _on_policy_conflicts(config: RunConfig) -> Iterator[Problem]:
    """Targets that the student samples."""
    if not config.loss.on_policy:
        return
    opening = f"`loss.on_policy` {config.loss.on_policy}"
    if config.loss.alpha_chunk:
        yield Problem(
            ("loss.alpha_chunk", "loss.on_policy"),
            f"`loss.alpha_chunk` {config.loss.alpha_chunk} compares likelihoods of the labels, which {opening} "
            "replaces: leave one out",
        )
    if config.method != "kd":
        yield Problem(
            ("loss.on_policy", "method"),
            f"{opening} needs a teacher, and `method` {config.method} has none: leave it out",
        )
    elif config.loss.alpha_ce == 0:
        yield Problem(
            ("loss.on_policy", "loss.alpha_ce"), f"{opening} trains with ce_loss, and `loss.alpha_ce` is 0: raise it"
        )
    if config.teacher_cache:
        yield Problem(
            ("loss.on_policy", "teacher_cache"),
            f"{opening} needs the teacher itself, not `teacher_cache` {format_value(config.teacher_cache)}: "
            "leave one out",
        )
    if str(config.trainer.strategy) == "fsdp2":
        yield Problem(
            ("loss.on_policy", "trainer.strategy"),
            f"{opening} decodes during training, which `trainer.strategy` fsdp2 does not support: choose ddp",
        )


def _entries_conflicts(matches: Sequence[FeatureLossConfig]) -> Iterator[Problem]:
    for number, match in enumerate(matches):
        for message in (*_entry_conflicts(match), *_layer_conflicts(match)):
            yield Problem(("matches",), f"`matches` entry {number}{message}")


def _match_conflicts(config: RunConfig) -> Iterator[Problem]:
    """Feature losses: within an entry, and with other options."""
    yield from _entries_conflicts(config.matches)
    if config.matches and config.method != "kd":
        yield Problem(
            ("matches", "method"),
            f"`matches` compares with a teacher, and `method` {config.method} has none: leave one out",
        )
    elif config.matches and config.data and config.teacher is None:
        yield Problem(
            ("matches", "teacher", "data"), "`matches` compares with a teacher: add `teacher`, or leave it out"
        )
    if config.matches and config.teacher_cache:
        yield Problem(
            ("matches", "teacher_cache"),
            f"`matches` needs layer outputs, which `teacher_cache` {format_value(config.teacher_cache)} does not hold: "
            "leave one out",
        )
    if config.optim.projection_lr is not None and not any(match.projection for match in config.matches):
        yield Problem(
            ("optim.projection_lr", "matches"),
            f"`optim.projection_lr` {config.optim.projection_lr} needs an entry of `matches` with a projection: "
            "add one, or leave it out",
        )


def _entry_conflicts(match: FeatureLossConfig) -> Iterator[str]:
    """Ends of messages that open with the entry."""
    if match.side == "encoder" and match.feature == "cross_attention":
        yield ", feature cross_attention: an encoder has none; choose self_attention, or side decoder"
    losses = LOSSES["hidden" if match.feature == "hidden" else "attention"]
    if match.loss not in losses:
        yield f", loss {match.loss} cannot compare {match.feature}: choose {', '.join(losses)}"
    if match.projection and match.feature != "hidden":
        yield f", projection {match.projection}: attention weights have no width to project; leave it out"


def _layer_conflicts(match: FeatureLossConfig) -> Iterator[str]:
    """Ends of messages that open with the entry."""
    given = {key: value for key in ("student", "teacher") if (value := getattr(match, key)) is not None}
    if match.layers and given:
        key, value = next(iter(given.items()))
        yield f", layers {match.layers} and {key} {format_value(value)}: give one or the other"
    elif match.layers and match.loss == "gram":
        yield f", layers {match.layers}: gram compares the change between two layers; give student and teacher"
    elif not match.layers and len(given) < 2:
        missing = " and ".join(key for key in ("student", "teacher") if key not in given)
        yield f" lacks {missing}: give a layer, or set layers to copied, spread or last in place of both"
    elif match.loss == "gram":
        for key, value in given.items():
            if not isinstance(value, list) or len(value) != 2:
                yield f", {key} {format_value(value)}: gram takes two layers; give a pair such as [0, -1]"
    else:
        for key, value in given.items():
            if isinstance(value, list):
                yield f", {key} {format_value(value)}: {match.loss} takes a single layer; give one, or set loss to gram"
