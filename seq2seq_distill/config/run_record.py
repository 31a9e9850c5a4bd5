"""run.yaml of an output folder: the resolved config of a run and its provenance."""

from collections.abc import Sequence
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import yaml

from seq2seq_distill.utils.errors import ConfigError, ModelError

RUN_YAML = "run.yaml"


class Options(Protocol):
    """The options of a command, as a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


Config = TypeVar("Config", bound=Options)


def load_run_record(path: Path) -> dict[str, Any]:
    """The content of a run.yaml; empty if there is no such file.

    Raises:
        ConfigError: the file is not as a run writes it.
    """
    if not path.exists():
        return {}
    try:
        record = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        record, reason = None, " ".join(str(error).split())[:200]
    else:
        reason = "no mapping of options"
    if not isinstance(record, dict):
        raise ConfigError(f"{path} cannot be read ({reason}): restore it, or choose another `output_dir`")
    return as_it_was_meant(record)


def as_it_was_meant(record: dict[str, Any]) -> dict[str, Any]:
    """A run.yaml with the options that it does not name because there was no choice when it was written: the targets
    were those of the data. Other records, which have no provenance, stay as they are."""
    if "provenance" not in record or "targets" in record:
        return record
    return {**record, "targets": "reference"}


def read_run_record(model: str) -> dict[str, Any]:
    """run.yaml of the run whose output folder contains this model or file; empty for any other model.

    Raises:
        ConfigError: the file is not as a run writes it.
    """
    path = Path(model).expanduser()
    return load_run_record(path.resolve().parent / RUN_YAML) if path.exists() else {}


def task_of_run(run: dict[str, Any], data: Sequence[str] | None) -> dict[str, Any]:
    """The record of a run; of a run with several tasks, as if the task with this data had been its only one.

    Raises:
        ConfigError: there are several tasks, and no data to choose one by.
    """
    if not run.get("tasks"):
        return run
    if not data:
        raise ConfigError("`data` is missing: the model learned several tasks: name the data of one")
    task: dict[str, Any] = next((task for task in run["tasks"] if task["data"] == list(data)), {})
    options = {name: value for name, value in task.items() if value is not None}
    encode = {**run["encode"], **({"prefix": options["prefix"]} if "prefix" in options else {})}
    return {**run, **options, "encode": encode}


def model_of_run(name: str, field: str = "model") -> str:
    """The best student, where a name is the output folder of a run; any other name as it is.

    Raises:
        ModelError: the run has no student yet; it opens with `field`.
    """
    folder = Path(name).expanduser()
    if not (folder / RUN_YAML).is_file():
        return name
    if not (folder / "best").is_dir():
        raise ModelError(
            f"`{field}` {name}: the run has no best/ yet: let it reach a validation, or give another model"
        )
    return str(folder / "best")


def task_like(run: dict[str, Any], config: Options) -> dict[str, Any]:
    """The record of a run; of a run with several tasks, as if its only one had been the one that has the task,
    languages and prefix of the config.

    Raises:
        ConfigError: several tasks have them, or none.
    """
    names = ("task", "src_lang", "tgt_lang", "prefix")
    wanted = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    tasks = run.get("tasks") or []
    alike = [task for task in tasks if all((task.get(name) or run.get(name)) == wanted[name] for name in wanted)]
    if tasks and len(alike) != 1:
        given = " ".join(f"`{name}` {value}" for name, value in wanted.items()) or "`prefix` is missing"
        raise ConfigError(
            f"{given}: the model learned several tasks, and {len(alike)} are meant: choose one by `task`, `src_lang`, "
            "`tgt_lang` and `prefix`"
        )
    return task_of_run(run, alike[0]["data"]) if alike else run


def with_recorded_options(config: Config, record: dict[str, Any]) -> Config:
    """The config with what it leaves out of data, task, languages, columns, prefix and lengths filled in from a record.

    Beams and other settings of decoding are left alone: a run has written them into its model.

    Args:
        config: the options of a command.
        record: run.yaml or export.json of the run or export that a model is of, of one task; empty for any other model.
    """
    encode, decode = record.get("encode") or {}, record.get("eval") or {}
    recorded = {
        **{name: record.get(name) for name in ("data", "task", "src_lang", "tgt_lang")},
        **{name: encode.get(name) for name in ("prefix", "source_column", "target_column", "max_source_length")},
        "max_target_length": decode.get("max_target_length") or record.get("max_target_length"),
    }
    left_out = {field.name for field in fields(config) if getattr(config, field.name) in (None, [])}
    return replace(
        config, **{name: value for name, value in recorded.items() if name in left_out and value is not None}
    )
