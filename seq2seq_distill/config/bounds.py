"""What values an option can take, whatever the config: checks that need neither torch nor a file."""

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from seq2seq_distill.utils.errors import format_value

DivergenceName = Literal[
    "forward_kl", "reverse_kl", "jsd", "total_variation", "skewed_forward_kl", "skewed_reverse_kl", "mse"
]
"""What `ce_loss` can be made of; `losses/divergences.py` has the formulas."""
AT_LEAST: dict[str, float] = {
    "student.encoder_layers": 1,
    "student.decoder_layers": 1,
    "student.vocab_size": 260,  # all bytes and the special tokens
    "encode.max_source_length": 2,
    "encode.max_target_length": 2,
    "teacher_source.max_length": 2,
    "encode.n_train": 1,
    "batch.size": 1,
    "batch.max_tokens": 1,
    "batch.workers": 0,
    "loss.alpha_ce": 0,
    "loss.alpha_mlm": 0,
    "loss.alpha_hid": 0,
    "loss.schedule.strength": 0,
    "loss.schedule.warmup_steps": 0,
    "cache.top_k": 1,
    "task_exponent": 0,
    "loss.on_policy": 0,
    "loss.on_policy_max_length": 1,
    "n": 1,
    "rows": 1,
    "repeats": 1,
    "source_length": 2,
    "output_length": 2,
    "n_speed": 0,
    "batch_size": 1,
    "resamples": 100,
    "length_penalty": -100,
    "beams": 1,
    "max_source_length": 2,
    "max_target_length": 1,
    "n_best": 1,
    "top_k": 0,
    "max_tokens": 1,
    "shard_rows": 1,
    "min_words": 1,
    "min_rouge2": 0,
    "min_chrf": 0,
    "min_length_ratio": 0,
    "max_length_ratio": 0,
    "max_repetition": 0,
    "max_copied": 0,
    "min_script": 0,
    "cache.draws": 1,
    "optim.warmup_steps": 0,
    "optim.weight_decay": 0,
    "eval.beams": 1,
    "eval.max_target_length": 1,
    "eval.length_penalty": -100,
    "eval.batch_size": 1,
    "eval.n_val": 1,
    "eval.n_test": 1,
    "eval.n_speed": 0,
    "eval.patience": 1,
    "eval.save_top_k": -1,
    "trainer.accumulate_grad_batches": 1,
    "trainer.log_every_n_steps": 0,
    "trainer.num_nodes": 1,
    "trainer.save_every_n_steps": 1,
}
AT_MOST: dict[str, float] = {
    "task_exponent": 10,
    "loss.on_policy": 1,
    "batch.workers": 1024,
    "cache.draws": 255,  # shares are stored in a byte each
    "eval.beams": 1000,
    "beams": 1000,
    "n_best": 1000,
    "length_penalty": 100,
    "top_p": 1,
    "min_score": 0,
    "min_rouge2": 100,
    "min_chrf": 100,
    "max_repetition": 1,
    "max_copied": 100,
    "min_script": 1,
    "eval.length_penalty": 100,  # as an exponent of the length, it must stay a number
    "resamples": 100_000,
    "trainer.accumulate_grad_batches": 10_000,
}
LARGEST = 2**31 - 1
"""Of every other number: what 32 bits hold, and more than anything that is counted here."""
ABOVE_ZERO = (
    "loss.on_policy_temperature",
    "speedup",
    "max_latency_ms",
    "loss.temperature",
    "loss.schedule.temperature_end",
    "loss.schedule.exponent",
    "optim.lr",
    "optim.projection_lr",
    "optim.eps",
    "trainer.val_check_interval",
    "trainer.limit_train_batches",
    "trainer.gradient_clip_val",
    "trainer.save_every_minutes",
    "temperature",
    "top_p",
)
SHARES = (
    "student.dropout",
    "student.attention_dropout",
    "student.encoder_layerdrop",
    "student.decoder_layerdrop",
    "loss.label_smoothing",
    "loss.skew",
    "drop_fraction",
)
LARGEST_SEED = 2**32 - 1
LARGEST_WEIGHT = 1000
FREE_TEXTS = ("encode.prefix", "teacher_source.prefix", "prefix")
"""May be empty, and hold line ends."""
LONGEST_PATH, LONGEST_NAME = 4096, 255
CHOICES = {
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda", "mps", "tpu", "hpu"),
    "trainer.precision": ("32-true", "32", "bf16-mixed", "bf16", "16-mixed", "16"),  # weights stay float32
}
DEVICES = re.compile(r"auto|-1|[1-9]\d*|\d+(,\d+)+|\d+,")
DURATION = re.compile(r"(?!0+:00:00:00)\d{1,5}:[0-5]\d:[0-5]\d:[0-5]\d")


def option_problems(config: Any) -> list[str]:
    """Every value of a config (a dataclass, groups within it) that its option cannot take, a line each."""
    lines, values = {}, {}
    for name, value, may_be_null in _options(config):
        values[name] = value
        if value is None and not may_be_null:
            lines[name] = f"--{name} null: it needs a value; give one, or leave it out for the default"
        elif line := _value_problem(name, value):
            lines[name] = line
    for line in _range_problems({name: value for name, value in values.items() if name not in lines}):
        lines.setdefault(line.split()[0].removeprefix("--"), line)
    return list(lines.values())


def tool_problems(config: Any, *required: str) -> list[str]:
    """As `option_problems`, of a config in which these options must be given."""
    missing = [name for name in required if not getattr(config, name)]
    others = [line for line in option_problems(config) if line.split()[0].removeprefix("--") not in missing]
    return [*(f"--{name} is missing: name one" for name in missing), *others]


def _options(config: Any, group: str = "") -> Iterator[tuple[str, Any, bool]]:
    """Name, value, and whether it may be null; of each entry of a list of mappings too."""
    hints = get_type_hints(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from _options(value, f"{group}{field.name}.")
        elif isinstance(value, list) and any(is_dataclass(entry) for entry in value):
            for number, entry in enumerate(value):
                yield from _options(entry, f"{group}{field.name} entry {number}, ")
        else:
            yield f"{group}{field.name}", value, type(None) in get_args(hints[field.name])


def _value_problem(name: str, value: Any) -> str | None:
    """What makes a value, or one inside it, impossible for any option."""
    problems: Iterable[str | None] = ()
    match value:
        case None | bool():
            return None
        case str():
            return _text_problem(name, value)
        case float() if not math.isfinite(value):
            return f"--{name} {value} is not a finite number: give one"
        case int() | float():
            if abs(value) <= LARGEST or name == "seed":
                return None
            return f"--{name} {format_value(value, 40)} is too large: choose {LARGEST} or less"
        case list() | tuple():
            problems = (_value_problem(name, each) for each in value)
        case dict():
            problems = (_entry_problem(name, key, each) for key, each in value.items())
        case _:
            kind = type(value).__name__
            return (
                f"--{name} {format_value(value)} is a {kind}: give text (in YAML, in quotes), a number, true or false"
            )
    return next(filter(None, problems), None)


def _entry_problem(name: str, key: Any, value: Any) -> str | None:
    if not isinstance(key, str) or not key.isprintable() or not key:
        return f"--{name} {format_value(key)}: a key must be text; put it in quotes, or remove it"
    return _value_problem(f"{name} {key}", value)


def _text_problem(name: str, text: str) -> str | None:
    entry = " entry " in name
    free = (name.rsplit(" ")[-1] if entry else name) in FREE_TEXTS
    odd = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), "")
    if odd and not (free and odd in "\n\t"):
        return f"--{name} {format_value(text)} holds the character U+{ord(odd):04X}: remove it"
    if len(text) > LONGEST_PATH:
        return f"--{name} {format_value(text, 40)} is too long: give {LONGEST_PATH} characters at most"
    if free or (" " in name and not entry):  # inside a mapping, which belongs to a library
        return None
    if not text.strip():
        return f"--{name} {format_value(text)} is empty: give a value, or leave it out"
    if _longest_part(text) > LONGEST_NAME:
        return f"--{name} {format_value(text, 40)} is too long: give names of {LONGEST_NAME} bytes at most"
    if text.startswith("~"):
        try:
            Path(text).expanduser()
        except RuntimeError:
            return f"--{name} {text} is in the home folder of nobody known here: write the path out"
    return None


def _longest_part(text: str) -> int:
    return max(len(part.encode("utf-8", "surrogatepass")) for part in text.split("/"))


def _range_problems(values: dict[str, Any]) -> Iterator[str]:
    """`values`: by option, without those that are wrong already."""
    given = {name: value for name, value in values.items() if value is not None}
    for name, low in AT_LEAST.items():
        if given.get(name, low) < low:
            yield f"--{name} {given[name]} is too small: choose {low} or more"
    for name, high in AT_MOST.items():
        if given.get(name, high) > high:
            yield f"--{name} {given[name]} is too large: choose {high} or less"
    for name in ABOVE_ZERO:
        if given.get(name, 1) <= 0:
            yield f"--{name} {given[name]} is too small: choose more than 0"
    for name in SHARES:
        if not 0 <= given.get(name, 0) < 1:
            yield f"--{name} {given[name]} is out of range: choose 0 or more, less than 1"
    for name in ("trainer.val_check_interval", "trainer.limit_train_batches"):
        value = given.get(name, 1)
        if value > 1 and value != int(value):
            yield f"--{name} {value} is neither a share nor a whole number of steps: choose up to 1.0, or 2, 3, ..."
    for name, choices in CHOICES.items():
        if given.get(name, choices[0]) not in choices:
            yield f"--{name} {format_value(given[name])}: choose one of {', '.join(choices)}"
    yield from _list_problems(given)
    yield from _length_problems(given)


def _list_problems(given: dict[str, Any]) -> Iterator[str]:
    betas, weights, logger = (given.get(name, ()) for name in ("optim.betas", "data_weights", "logger"))
    if not all(0 <= beta < 1 for beta in betas):
        yield f"--optim.betas {join_values(betas)} is out of range: choose 0 or more, less than 1"
    if any(weight < 0 for weight in weights):
        yield f"--data_weights {join_values(weights)}: every weight must be 0 or more"
    elif weights and not any(weights):
        yield f"--data_weights {join_values(weights)}: nothing is left to train on: one must be more than 0"
    if any(weight > LARGEST_WEIGHT for weight in weights):
        yield f"--data_weights {join_values(weights)}: every weight must be {LARGEST_WEIGHT} or less"
    shares = given.get("ensemble.weights", ())
    if any(not 0 < share <= LARGEST_WEIGHT for share in shares):
        yield (
            f"--ensemble.weights {join_values(shares)}: every weight must be more than 0, and {LARGEST_WEIGHT} or less"
        )
    if len(set(logger)) < len(logger):
        yield f"--logger {join_values(logger)}: name each once"
    if not 0 < given.get("loss.beta", 0.5) < 1:
        yield f"--loss.beta {given['loss.beta']} is out of range: choose more than 0, less than 1"
    lowest, highest = given.get("loss.schedule.temperature_range", (1, 1))
    if not 0 < lowest <= highest:
        yield f"--loss.schedule.temperature_range {lowest} {highest}: give two numbers above 0, the smaller one first"
    yield from _divergence_problems(given.get("loss.divergence", "forward_kl"))
    for side in ("encoder", "decoder"):
        ids = given.get(f"student.{side}_layer_ids", [0])
        if not ids or ids[0] < 0 or any(left >= right for left, right in zip(ids, ids[1:], strict=False)):
            yield (
                f"--student.{side}_layer_ids {join_values(ids) or '[]'}: give each layer once, in increasing "
                "order from 0"
            )


def _divergence_problems(divergence: Any) -> Iterator[str]:
    weights = {divergence: 1.0} if isinstance(divergence, str) else divergence
    names = get_args(DivergenceName)
    for name in sorted(weights.keys() - names):
        yield (
            f"--loss.divergence {format_value(name)}: choose one of {', '.join(names)}, or a mapping from "
            "these to weights"
        )
    if not weights or min(weights.values()) <= 0:
        yield f"--loss.divergence {format_value(weights)}: give one or more, each with a weight above 0"


def _length_problems(given: dict[str, Any]) -> Iterator[str]:
    """Of how long the run is, on which devices, and from which seed."""
    epochs, steps = given.get("trainer.max_epochs", 1), given.get("trainer.max_steps", -1)
    if steps < 1 and steps != -1:
        yield f"--trainer.max_steps {steps} is too small: choose 1 or more, or -1 to count epochs"
    if steps < 1 and epochs <= 0:
        yield f"--trainer.max_epochs {epochs} is too small: choose more than 0, or --trainer.max_steps"
    if not 0 <= given.get("seed", 0) <= LARGEST_SEED:
        yield f"--seed {format_value(given['seed'], 40)} is out of range: choose 0 to {LARGEST_SEED}"
    devices = str(given.get("trainer.devices", "auto"))
    if not DEVICES.fullmatch(devices):
        yield f"--trainer.devices {format_value(devices)}: choose auto, a number from 1 on, or ids such as 0,2"
    duration = given.get("trainer.max_time", "00:01:00:00")
    if not DURATION.fullmatch(duration):
        yield f"--trainer.max_time {format_value(duration)}: write it as DD:HH:MM:SS, such as 00:08:30:00"


def join_values(values: Any) -> str:
    """Values of a list as one writes them behind a flag."""
    return " ".join(format_value(value) for value in values)
