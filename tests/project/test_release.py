"""What a release needs: one version everywhere, a README that PyPI can show, installations at the lower bounds."""

import re
import runpy
import tomllib
from pathlib import Path

import yaml

from tests.project import lowest

ROOT = Path(__file__).parents[2]


def test_one_version_and_date():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    released = re.search(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert released
    assert (project["version"], str(citation["date-released"])) == released.groups()
    assert project["version"] == citation["version"]


def test_absolute_links():
    absolute_links = runpy.run_path(str(ROOT / ".github" / "absolute_links.py"))["absolute_links"]
    text = '[a](docs/a.md#b) [c](#c) [d](https://d.org/d) <img src="docs/e.svg" width="1"> `f(g)`'
    assert absolute_links(text, "owner/name", "v1") == (
        "[a](https://github.com/owner/name/blob/v1/docs/a.md#b) [c](#c) [d](https://d.org/d) "
        '<img src="https://raw.githubusercontent.com/owner/name/v1/docs/e.svg" width="1"> `f(g)`'
    )
    readme = absolute_links((ROOT / "README.md").read_text("utf-8"), "owner/name", "v1")
    targets = re.findall(r'\]\(([^)]+)\)|(?:src|srcset)="([^"]+)"', readme)
    assert targets and all("".join(target).startswith(("https://", "#")) for target in targets)


def test_lowest_versions():
    pins = dict(line.split("==") for line in lowest.constraints() if not line.startswith("#"))
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    for name in lowest.LOWEST:
        assert any(line.startswith(f"{name}>={pins[name]}") for line in dependencies)
    assert not pins.keys() & set(lowest.FREE)
    assert "datasets" in pins
