"""The rules of the house that import-linter does not know; `make check` runs its contracts."""

import ast
import subprocess
import sys
from pathlib import Path

import seq2seq_distill
from seq2seq_distill.cli.main import COMMANDS

LIGHTNING = {"pytorch_lightning", "lightning_fabric", "torchmetrics", "tensorboard"}
HEAVY = {"sacrebleu", "nltk", "transformers.modeling_utils", "torch.distributed.fsdp"}
"""Imports that take half a second or more, and that a command may never need."""
PACKAGE = Path(seq2seq_distill.__file__).parent


def test_no_import_inside_a_function():
    inner = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not inner


def test_the_package_and_help_cost_no_torch():
    code = "import sys, seq2seq_distill.cli.main\nassert 'torch' not in sys.modules and dir(seq2seq_distill)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_commands_import_what_they_use():
    """Not what scores need (sacrebleu, nltk) nor the base class of all models; and planning needs no Lightning."""
    for names, heavy in {
        "generate evaluate label export student trim average convert": LIGHTNING | HEAVY,
        "plan": LIGHTNING,
    }.items():
        modules = ", ".join(COMMANDS[name].module for name in names.split())
        code = f"import sys, {modules}\nassert not {heavy} & sys.modules.keys(), {heavy} & sys.modules.keys()"
        subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_import():
    assert all(getattr(seq2seq_distill, name) is not None for name in seq2seq_distill.__all__)
