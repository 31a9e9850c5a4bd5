"""run.yaml of an output folder: the resolved config of a run and its provenance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from seq2seq_distill.utils.errors import ConfigError

RUN_YAML = "run.yaml"


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
    return record


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
