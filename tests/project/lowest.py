"""constraints.txt with the lowest supported versions. `make test-lowest` installs what `python -m tests.project.lowest`
prints."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOWEST = ("torch", "transformers", "pytorch-lightning")
FREE = ("huggingface_hub", "tokenizers")
"""Packages of which each version of transformers accepts a narrow range."""


def constraints() -> Iterator[str]:
    """Lines for pip: the lower bounds in pyproject.toml of `LOWEST`, then the pins of all other packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for name in LOWEST:
        bounds = (re.match(rf"{name}>=([\d.]+)", line) for line in project["dependencies"])
        (bound,) = (match[1] for match in bounds if match)
        yield f"{name}=={bound}"
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if line.partition("==")[0] not in LOWEST + FREE:
            yield line


if __name__ == "__main__":
    print("\n".join(constraints()))
