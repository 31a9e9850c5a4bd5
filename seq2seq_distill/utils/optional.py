"""Packages that are not always installed; each comes with the extra of its name."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from seq2seq_distill.utils.errors import ConfigError


def optional(module: str, wanted_by: str) -> ModuleType:
    """A module of such a package.

    Raises:
        ConfigError: it is not installed; the line opens with `wanted_by`, a flag and its value.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError:
        raise ConfigError(_missing(package, wanted_by)) from None


def missing_problem(package: str, wanted_by: str) -> str | None:
    """The line of `optional`'s error without importing anything; None where the package is installed."""
    return None if find_spec(package) else _missing(package, wanted_by)


def _missing(package: str, wanted_by: str) -> str:
    return f"{wanted_by} needs {package}: pip install 'seq2seq_distill[{package}]'"
