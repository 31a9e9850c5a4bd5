"""The public names: each has an example that runs, and a place in the reference."""

import doctest
import re
from pathlib import Path

import pytest

import seq2seq_distill

REFERENCE = Path(__file__).parents[2] / "docs" / "api"


@pytest.mark.parametrize("name", seq2seq_distill.__all__)
def test_its_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [test] = doctest.DocTestFinder(recurse=False).find(getattr(seq2seq_distill, name), name, globs={})
    assert test.examples, f"{name} has no example"
    output: list[str] = []
    failed, _ = doctest.DocTestRunner().run(test, out=output.append)
    assert not failed, "".join(output)


def test_the_reference_has_every_name_once():
    pages = [page.read_text(encoding="utf-8") for page in sorted(REFERENCE.glob("*.md"))]
    named = re.findall(r"^::: [\w.]+\.(\w+)$", "\n".join(pages), flags=re.MULTILINE)
    assert sorted(named) == sorted(seq2seq_distill.__all__)
