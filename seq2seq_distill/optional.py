"""Packages that are not always installed, each named here once with what installs it."""

from importlib import import_module
from types import ModuleType

from seq2seq_distill.errors import ConfigError

EXTRAS = {"ctranslate2": "ctranslate2"}
"""Package to the extra that brings it."""


def optional(module: str, wanted_by: str) -> ModuleType:
    """A module of such a package.

    Raises:
        ConfigError: it is not installed; the line opens with `wanted_by`, a flag and its value.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError:
        raise ConfigError(f"{wanted_by} needs {package}: pip install 'seq2seq_distill[{EXTRAS[package]}]'") from None
