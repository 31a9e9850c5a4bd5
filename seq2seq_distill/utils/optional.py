"""Optional packages; each is installed with the extra of the same name, but for `EXTRAS`."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from seq2seq_distill.utils.errors import ConfigError

EXTRAS = {"onnxruntime": "onnx"}
"""Extra of a package, where it has another name."""


def optional(module: str, wanted_by: str) -> ModuleType:
    """Import a module of an optional package.

    Raises:
        ConfigError: it is not installed; the message opens with `wanted_by`, an option and its value.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError:
        raise ConfigError(_missing(package, wanted_by)) from None


def is_installed(package: str) -> bool:
    """Whether an optional package is there, without importing anything."""
    return find_spec(package) is not None


def missing_problem(package: str, wanted_by: str) -> str | None:
    """The message of that error, without importing anything; None if the package is installed."""
    return None if is_installed(package) else _missing(package, wanted_by)


def _missing(package: str, wanted_by: str) -> str:
    return f"{wanted_by} needs the package {package}: run pip install 'seq2seq_distill[{EXTRAS.get(package, package)}]'"
