"""The site builds without a warning."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not (find_spec("zensical") and find_spec("mkdocstrings")), reason="needs the extra [docs], which is not installed"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with what the site is made of, in which a build leaves its files."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    (tmp_path / "seq2seq_distill").symlink_to(ROOT / "seq2seq_distill")
    return tmp_path


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_it_builds_with_every_name(project):
    made = build(project)
    assert made.returncode == 0 and "griffe:" not in made.stdout + made.stderr, made.stdout + made.stderr
    page = (project / "build" / "site" / "api" / "losses.html").read_text(encoding="utf-8")
    assert 'id="seq2seq_distill.losses.blend.blend"' in page
    assert (project / "build" / "site" / "search.json").exists()


@pytest.mark.parametrize(
    "text",
    ["[a](missing.md)", "[a](README.md#missing)", "::: seq2seq_distill.missing"],
    ids=["page", "heading", "name"],
)
def test_a_dead_link_or_a_missing_name_is_an_error(tmp_path, text):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "README.md").write_text(f"# Page\n\n{text}\n", encoding="utf-8")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    without_navigation = re.sub(r"^nav:\n(?: .*\n)*", "", settings, flags=re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(without_navigation, encoding="utf-8")
    (tmp_path / "seq2seq_distill").symlink_to(ROOT / "seq2seq_distill")
    assert build(tmp_path).returncode != 0
