"""The import rule: data flows one way, and so do imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import seq2seq_distill

PACKAGE = Path(seq2seq_distill.__file__).parent
# Every file may import only from files above it.
ORDER = """
redaction errors optional checks loss_conflicts task_conflicts conflicts config
tool_config plan/config label/config evaluate/config export/config
data/columns data/files data/sources data/tokenizers data/encode data/batching data/teacher_cache
data/teacher_sources data/loaders data/datamodule
demo/markup demo/docstrings demo/lexicon demo/grammar demo/cldr demo/slots demo/wordings demo/phrases demo/copying
demo/__init__
models/families models/freezing models/layer_map models/hooks models/sharding models/pruning models/student models/int8
models/teacher
losses/logits losses/divergences losses/hidden losses/attention losses/sparse losses/ensemble losses/chunks
losses/chunked_kl losses/chunked_divergences losses/adaptive losses/fused losses/blend
metrics behaviour generation measure scoring engines
modules/optim modules/schedules modules/passes modules/own_parts modules/tasks modules/summarization modules/translation
modules/matches modules/adaptor modules/on_policy modules/distillers distillation_trainer
run/outdir run/signals run/checkpoints run/faults run/results run/card
run/callbacks run/reading run/parts run/caching run/token_checks run/preflight run/strategies run/trainer run/train
run/probe
verb_inputs plan/layouts plan/command cache budget student convert average
evaluate/systems evaluate/outputs evaluate/speed evaluate/comet evaluate/significance evaluate/scores evaluate/tables
evaluate/card evaluate/charts evaluate/report evaluate/command
export/specification export/parity export/command
label/choose label/filters label/shards label/merge label/teacher label/command
config_files parser arguments cli __main__
""".split()
FOLDERS = "data evaluate export label losses models modules plan run".split()
EMPTY = {f"{folder}/__init__" for folder in FOLDERS}
FILES = sorted(str(path.relative_to(PACKAGE).with_suffix("")) for path in PACKAGE.rglob("*.py"))


def test_every_file_has_its_place_in_the_order():
    assert set(FILES) == {*ORDER, *EMPTY, "__init__"}


@pytest.mark.parametrize("name", ORDER)
def test_a_file_imports_only_from_above(name):
    below = {other for other in imported_files(name) if other in ORDER and ORDER.index(other) >= ORDER.index(name)}
    assert not below, f"{name}.py imports from below: {sorted(below)}"


@pytest.mark.parametrize("name", FILES)
def test_no_import_inside_a_function(name):
    functions = [node for node in ast.walk(tree(name)) if isinstance(node, ast.FunctionDef)]
    inner = [
        node for function in functions for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not inner


@pytest.mark.parametrize("name", [n for n in ORDER if n == "metrics" or n.startswith("losses/")])
def test_metrics_and_losses_know_no_lightning(name):
    assert not [module for module in imported_modules(name) if "lightning" in module]


def test_the_package_and_help_cost_no_torch():
    code = (
        "import sys, seq2seq_distill, seq2seq_distill.cli; assert 'torch' not in sys.modules and dir(seq2seq_distill)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", seq2seq_distill.__all__)
def test_public_names_import(name):
    assert getattr(seq2seq_distill, name) is not None


def tree(name: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{name}.py").read_text("utf-8"))


def imported_modules(name: str) -> list[str]:
    modules = []
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return modules


def imported_files(name: str) -> set[str]:
    own = [
        module.removeprefix("seq2seq_distill.")
        for module in imported_modules(name)
        if module.startswith("seq2seq_distill.")
    ]
    paths = {module.replace(".", "/") for module in own}
    return paths | {f"{path}/__init__" for path in paths}
