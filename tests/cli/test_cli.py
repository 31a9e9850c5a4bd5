"""The command line: what it understands, and what it says of mistakes: one line, flag, value, remedy, exit code 2."""

import json
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import fields, is_dataclass, replace
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import yaml

import seq2seq_distill
from seq2seq_distill.cli.main import COMMANDS, main, parse
from seq2seq_distill.cli.messages import with_flags
from seq2seq_distill.cli.parser import Parser, element_of
from seq2seq_distill.config import (
    BatchConfig,
    FeatureLossConfig,
    LabelConfig,
    LossConfig,
    OptimConfig,
    RunConfig,
    StudentConfig,
)
from tests.tiny_runs import save_teacher, write_data

HEAVY = ("torch", "pytorch_lightning", "transformers", "datasets", "sacrebleu")
# A command without a mistake, as far as can be seen without loading anything.
GOOD = ("--task", "translation", "--teacher", "t", "--data", "d")


def mistakes(capsys: pytest.CaptureFixture, *arguments: object) -> list[str]:
    """The lines, without `distill: `, that the command prints on its way to exit code 2; nothing else is printed."""
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    ours = [line for line in lines if line.startswith("distill: ")]
    bars = ("Loading weights", "Writing model shards")  # not there if the command is a process of its own
    assert [line for line in lines if line not in ours and line.strip() and not line.startswith(bars)] == []
    return [line.removeprefix("distill: ") for line in ours]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OSError(28, "No space left on device", "last"), 3, "the disk is full while writing last: free some space and"),
        (RuntimeError("CUDA out of memory."), 3, "out of memory"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_what_the_machine_does_to_any_command_is_one_line(monkeypatch, capsys, tmp_path, error, code, line):
    """Of runs alone it was; others ended with a traceback."""

    def fail(config: Any) -> None:
        raise error

    monkeypatch.setattr("seq2seq_distill.commands.convert.command.convert", fail)
    assert main(["convert", "--checkpoint", "last.ckpt", "--output_dir", str(tmp_path)]) == code
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1 and printed[0].startswith(f"distill: {line}")


def options_of(kind: type, group: str = "") -> dict[str, Any]:
    """Every option of a config with its type."""
    hints, found = get_type_hints(kind), {}
    for field in fields(kind):
        hint = hints[field.name]
        name = f"{group}{field.name}"
        found |= options_of(hint, f"{name}.") if is_dataclass(hint) else {name: hint}
    return found


class TestUnderstanding:
    def test_flags_become_fields(self):
        config = parse("run", [*GOOD, "--student.decoder_layers", "3", "--optim.lr", "1e-4", "--method", "sft"])
        assert config == RunConfig(
            task="translation",
            teacher="t",
            data=["d"],
            method="sft",
            student=StudentConfig(decoder_layers=3),
            optim=OptimConfig(lr=1e-4),
        )

    def test_one_flag_in_three_hops(self):
        assert parse("run", [*GOOD, "--loss.temperature", "3"]).loss == LossConfig(temperature=3.0)
        assert parse("run", [*GOOD, "--loss.temperature=3"]).loss == LossConfig(temperature=3.0)

    def test_lists_take_several_values(self):
        arguments = "--task translation --teacher t --data a b --data_weights 1 0.5 --logger csv tensorboard".split()
        arguments += "--student.decoder_layer_ids 0 5 --optim.betas 0.8 9e-1 --student.encoder_layer_ids 2".split()
        config = parse("run", arguments)
        assert (config.data, config.data_weights) == (["a", "b"], [1.0, 0.5])
        assert config.logger == ["csv", "tensorboard"]
        assert (config.student.decoder_layer_ids, config.student.encoder_layer_ids) == ([0, 5], [2])
        assert config.optim.betas == (0.8, 0.9)
        assert parse("average", ["--checkpoints", "a", "b", "--output_dir", "o"]).checkpoints == ["a", "b"]

    @pytest.mark.parametrize("written", [["--data", '["a", "b"]'], ["--data=[a, b]"], ["--data", "a", "b"]])
    def test_lists_may_be_written_in_other_ways(self, written):
        assert parse("run", ["--task", "translation", "--teacher", "t", *written]).data == ["a", "b"]

    def test_names_stay_text(self):
        """A language may be called `no`, a folder 2024, and a path may have blanks and quotes."""
        arguments = ["--task", "translation", "--teacher", "1e3", "--data", "2024", 'my "data": x', "no"]
        arguments += ["--src_lang", "no", "--tgt_lang", "on", "--output_dir", "2024", "--encode.prefix", "to German: "]
        config = parse("run", arguments)
        assert (config.teacher, config.output_dir) == ("1e3", "2024")
        assert config.data == ["2024", 'my "data": x', "no"]
        assert (config.src_lang, config.tgt_lang, config.encode.prefix) == ("no", "on", "to German: ")

    def test_null_takes_a_list_of_a_config_file_back(self, tmp_path):
        """`--student.decoder_layer_ids null` was refused: expected a list."""
        (tmp_path / "c.yaml").write_text("student:\n  decoder_layer_ids: [5]\ndata_weights: [1, 2]\n")
        taken_back = ["--student.decoder_layer_ids", "null", "--data_weights=null"]
        config = parse("run", [*GOOD, "--config", str(tmp_path / "c.yaml"), *taken_back])
        assert config.student.decoder_layer_ids is None and config.data_weights is None

    def test_null_and_mappings(self):
        arguments = ["--eval.n_val", "null", "--trainer.gradient_clip_val", "null", "--logger", "[]"]
        arguments += ["--eval.generate", '{"no_repeat_ngram_size": 3}', "--student.overrides.dropout", "0.2"]
        config = parse("run", [*GOOD, *arguments])
        assert (config.eval.n_val, config.trainer.gradient_clip_val, config.logger) == (None, None, [])
        assert config.eval.generate == {"no_repeat_ngram_size": 3}
        assert config.student.overrides == {"dropout": 0.2}

    @pytest.mark.parametrize(
        "written",
        [
            ['[{"layers": "last", "loss": "cosine"}, {"student": 0, "teacher": -2, "weight": 0.5}]'],
            ['{"layers": "last", "loss": "cosine"}', "{student: 0, teacher: -2, weight: 0.5}"],
        ],
    )
    def test_lists_of_mappings(self, tmp_path, written):
        expected = [
            FeatureLossConfig(layers="last", loss="cosine"),
            FeatureLossConfig(student=0, teacher=-2, weight=0.5),
        ]
        config = parse("run", [*GOOD, "--matches", *written])
        assert config.matches == expected
        path = tmp_path / "a.yaml"
        path.write_text("matches:\n- {layers: last, loss: cosine}\n- student: 0\n  teacher: -2\n  weight: 0.5\n")
        assert parse("run", [*GOOD, "--config", str(path)]).matches == expected
        assert parse("run", [*GOOD, "--config", str(path), "--matches", "[]"]).matches == []
        path.write_text(yaml.safe_dump(json.loads(json.dumps(config, default=vars))))
        assert parse("run", ["--config", str(path)]) == config

    def test_a_flag_wins_over_a_file_and_a_file_over_a_default(self, tmp_path):
        path = tmp_path / "a.yaml"
        path.write_text("task: translation\nteacher: t\ndata: [d]\noptim: {lr: 1e-3}\nbatch:\n  size: 7\n")
        config = parse("run", ["--optim.lr", "5e-4", "--config", str(path)])
        assert (config.optim.lr, config.batch, config.loss) == (5e-4, BatchConfig(size=7), LossConfig())
        assert parse("run", [f"--config={path}"]).optim.lr == 1e-3

    def test_later_files_win_over_earlier_ones(self, tmp_path):
        first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
        first.write_text("task: translation\nteacher: t\ndata: [d]\nbatch: {size: 7, workers: 1}\n")
        second.write_text("batch:\n  size: 8\n")
        assert parse("run", ["--config", str(first), "--config", str(second)]).batch == BatchConfig(size=8, workers=1)

    @pytest.mark.parametrize("task", ["summarization", "translation"])
    def test_a_bare_command_is_the_demo(self, task):
        config = parse("run", ["--task", task, "--optim.lr", "1e-5"])
        assert (config.teacher, config.data) == (f"demo:{task}", [f"demo:{task}"])
        assert config.optim.lr == 1e-5
        assert parse("run", ["--task", task]).student.decoder_layers == 1

    def test_what_a_run_has_written_is_understood_whole(self, tmp_path):
        config = parse("run", [*GOOD, "--student.overrides", '{"activation_dropout": 0.1}', "--eval.n_val", "null"])
        path = tmp_path / "run.yaml"
        record = json.loads(json.dumps(config, default=vars))
        path.write_text(yaml.safe_dump({**record, "provenance": {"python": "3.11", "versions": {"torch": "2.13.0"}}}))
        assert parse("run", ["--config", str(path)]) == config


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_names_and_explains_every_option(self, command):
        text = StringIO()
        with redirect_stdout(text), pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        for name in options_of(COMMANDS[command].config_class):
            assert f"--{name} " in text.getvalue()
        parser = Parser.of(COMMANDS[command].config_class, "distill", "")
        unexplained = [action.dest for action in parser._actions if not action.help]
        assert unexplained == []

    def test_explains_the_keys_of_a_list_of_mappings(self, capsys):
        with pytest.raises(SystemExit, match="0"):
            main(["--matches.help"])
        printed = capsys.readouterr().out
        assert all(f"--matches.{field.name} " in printed for field in fields(FeatureLossConfig))

    def test_names_the_commands(self, capsys):
        with pytest.raises(SystemExit):
            main(["--help"])
        printed = capsys.readouterr().out
        assert all(f"  {name} " in printed for name in COMMANDS if name != "run")

    def test_every_option_that_holds_several_values_is_a_list_to_the_command(self):
        for kind, _, _ in COMMANDS.values():
            parser = Parser.of(kind)
            for name, hint in options_of(kind).items():
                several = any(get_origin(each) in (list, tuple) for each in (hint, *get_args(hint)))
                assert (element_of(parser.type_of(name)) is not None) == several, name

    def test_the_version(self, capsys):
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"distill {version('seq2seq-distill')}\n"
        assert seq2seq_distill.__version__ == version("seq2seq-distill")

    def test_help_and_mistakes_load_nothing_heavy(self, tmp_path):
        """`distill --help` and a mistake answer at once: neither torch nor transformers is imported for them."""
        (tmp_path / "a.yaml").write_text("student:\n  decoder_layer: 3\n")
        commands = [[command, "--help"] for command in COMMANDS]
        commands += [["--help"], ["--version"], ["--tsk", "x"], ["summarize"], []]
        commands += [["--config", str(tmp_path / "a.yaml")], ["--student.decoder_layers", "x"]]
        commands += [["--task", "translation", "--optim.lr", "-1"], ["--task", "summarization", "--teacher", "t"]]
        code = f"""
import sys
from seq2seq_distill.cli.main import main
for arguments in {commands!r}:
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == (0 if arguments[-1:] in (["--help"], ["--version"]) else 2), (arguments, code)
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    assert not loaded, (arguments, loaded)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_the_module_is_the_command(self):
        command = [sys.executable, "-m", "seq2seq_distill", "--task", "translation", "--student.decoder_layer", "3"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == (
            "distill: --student.decoder_layer: no such option; did you mean --student.decoder_layers?\n"
        )


WRONG = {
    "misspelt flag": (["--studnt.decoder_layers", "3"], "no such option; did you mean --student.decoder_layers?"),
    "misspelt flag with =": (["--optim.learning=3"], "--optim.learning: no such option"),
    "flag without its group": (
        ["--temperature", "3"],
        "--temperature: no such option; did you mean --loss.temperature?",
    ),
    "nothing like it": (["--xyzzy", "3"], "--xyzzy: no such option; see --help"),
    "no number": (["--student.decoder_layers", "x"], "--student.decoder_layers x: expected a whole number"),
    "a fraction": (["--student.decoder_layers", "1.5"], "--student.decoder_layers 1.5: expected a whole number"),
    "nothing between quotes": (["--batch.size", ""], "--batch.size '': expected a whole number"),
    "null where none may be": (["--batch.size", "null"], "--batch.size null: expected a whole number"),
    "a word for a number": (["--optim.lr", "fast"], "--optim.lr fast: expected a number"),
    "not a number": (["--optim.lr", "nan"], "--optim.lr nan: expected a number"),
    "neither yes nor no": (
        ["--trainer.deterministic", "maybe"],
        "--trainer.deterministic maybe: expected true or false",
    ),
    "no such method": (["--method", "sftt"], "--method sftt: expected one of kd, sft"),
    "no such task": (["--task", "nli"], "--task nli: expected one of summarization, translation"),
    "no such logger": (
        ["--logger", "csv", "tensorbord"],
        "--logger csv tensorbord: expected a list, each one of tensorboard, csv, wandb, mlflow",
    ),
    "a list of words for numbers": (
        ["--student.encoder_layer_ids", "1", "x"],
        "--student.encoder_layer_ids 1 x: expected a list, each a whole number",
    ),
    "one beta": (["--optim.betas", "0.9"], "--optim.betas 0.9: expected 2 values, each a number"),
    "no mapping": (["--eval.generate", "beams"], '--eval.generate beams: expected a mapping such as {"key": 1}'),
    "no mapping in a list": (
        ["--matches", "copied"],
        '--matches entry 0, copied: expected a mapping such as {"key": 1}',
    ),
    "no list of mappings": (["--matches", "{]"], "--matches [{]]: expected a list, each a mapping such as"),
    "misspelt key in a list": (
        ["--matches", '[{"layers": "last"}, {"lyers": "last"}]'],
        "--matches entry 1, lyers: no such option; did you mean layers?",
    ),
    "a word for a number in a list": (
        ["--matches", '{"weight": "much", "layers": "last"}'],
        "--matches entry 0, weight much: expected a number",
    ),
    "a key in a list that contradicts another": (
        ["--matches", '{"layers": "last", "loss": "ce"}'],
        "--matches entry 0, loss ce cannot compare hidden: choose mse, cosine, ",
    ),
    "no options of a group": (
        ["--student", "x"],
        "--student x: expected a mapping of options, or a YAML file with one",
    ),
    "a flag without value": (["--optim.lr"], "--optim.lr: its value is missing; expected a number"),
    "two flags without value": (
        ["--student.path", "--seed", "1"],
        "--student.path: its value is missing; expected text",
    ),
    "a word too many": (["--student.path", "a", "b"], "b: belongs to no option; options start with --, see --help"),
    "out of range": (["--loss.temperature", "0"], "--loss.temperature 0.0 is too small: choose more than 0"),
    "no such precision": (["--trainer.precision", "17-mixed"], "--trainer.precision 17-mixed: choose one of 32-true, "),
    "no such accelerator": (["--trainer.accelerator", "abacus"], "--trainer.accelerator abacus: choose one of auto, "),
    "no time": (["--trainer.max_time", "soon"], "--trainer.max_time soon: write it as DD:HH:MM:SS"),
    "no such option of the Trainer": (
        ["--trainer.extra", '{"profilr": "simple"}'],
        "--trainer.extra profilr is not an option of the Trainer: choose profiler, ",
    ),
    "twice": (["--seed", "1", "--seed", "2"], "--seed is given twice, 1 and 2: give it once"),
    "no file": (["--config", "/no/such.yaml"], "--config /no/such.yaml: No such file or directory; name a YAML file"),
    "no such command": (["summarise"], "summarise: no such command; see --help"),
    "a misspelt command": (["averge"], "averge: no such command; did you mean average?"),
}
FILES = {
    "misspelt key": (
        "student:\n  decoder_layer: 3\n",
        ": student.decoder_layer: no such option; did you mean student.deco",
    ),
    "misspelt group": ("studnt:\n  decoder_layers: 3\n", ": studnt: no such option; did you mean student?"),
    "key without its group": ("temperature: 3\n", ": temperature: no such option; did you mean loss.temperature?"),
    "no mapping under a group": ("optim: 3\n", ": optim 3: expected a mapping of options"),
    "nothing under a group": ("optim:\n", ": optim null: expected a mapping of options"),
    "a word for a mapping in a list": (
        "matches: [last]\n",
        ': matches entry 0, last: expected a mapping such as {"key": 1}',
    ),
    "a word that is none of the choices in a list": (
        "matches: [{layers: first}]\n",
        ": matches entry 0, layers first: expected one of copied, spread, last",
    ),
    "no YAML": ("task: [translation\nseed: 1\n", ", line 2: not valid YAML ("),
    "a list": ("- 1\n- 2\n", ": contains no options; write lines such as `task: translation`"),
    "a word": ("hello\n", ": contains no options; write lines such as `task: translation`"),
    "nothing": ("", ": contains no options; write lines such as `task: translation`"),
    "bytes": (b"\x00\xff\xfe\x80", ": not valid YAML (not UTF-8 text); write lines such as `task: translation`"),
}


class TestFlagsInMessages:
    """The package names options in backticks; the command line shows them as flags."""

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("`loss.temperature` 0.0 is too small", "--loss.temperature 0.0 is too small"),
            ("`student.overrides.dropout` x: `student` y", "--student.overrides.dropout x: --student y"),
            ("`matches` entry 0, weight -1", "--matches entry 0, weight -1"),
            ("`distill cache`, `generate()`, `weight` and `Loss` are none", None),
            ("`loss.temprature` and `loss.temperature.x` neither", None),
        ],
    )
    def test_only_options_are_flags(self, text, shown):
        assert with_flags(text, RunConfig) == (shown or text)

    def test_options_of_the_command_and_of_a_run(self):
        text = "`min_score` or `eval.beams`"
        assert with_flags(text, LabelConfig) == "--min_score or --eval.beams"
        assert with_flags(text, RunConfig) == "`min_score` or --eval.beams"


class TestMistakes:
    @pytest.mark.parametrize("case", WRONG)
    def test_in_arguments(self, capsys, case):
        arguments, expected = WRONG[case]
        alone = " command" in case or "--task" in arguments
        lines = mistakes(capsys, *(arguments if alone else [*GOOD, *arguments]))
        assert len(lines) == 1
        assert expected in lines[0]
        assert lines[0].split(":")[0].split()[0] in " ".join(arguments)

    @pytest.mark.parametrize("case", FILES)
    def test_in_a_config_file(self, tmp_path, capsys, case):
        content, expected = FILES[case]
        path = tmp_path / "a.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        lines = mistakes(capsys, *GOOD, "--config", path)
        assert len(lines) == 1
        assert lines[0].startswith(f"--config {path}{expected}")

    def test_values_in_a_config_file(self, tmp_path, capsys):
        path = tmp_path / "a.yaml"
        path.write_text("optim:\n  lr: fast\n")
        assert mistakes(capsys, *GOOD, "--config", path) == [f"--config {path}: optim.lr fast: expected a number"]
        path.write_text("src_lang: no\n")  # Norwegian, but to YAML a boolean
        assert mistakes(capsys, *GOOD, "--config", path) == [
            f"--config {path}: src_lang False: expected text; put it in quotes"
        ]
        path.write_text("data: d\n")
        assert mistakes(capsys, "--task", "translation", "--config", path) == [
            f"--config {path}: data d: expected a list, each text"
        ]

    def test_a_folder_as_config(self, tmp_path, capsys):
        assert mistakes(capsys, "--config", tmp_path) == [f"--config {tmp_path}: Is a directory; name a YAML file"]

    def test_several_are_listed_together(self, tmp_path, capsys):
        path = tmp_path / "a.yaml"
        path.write_text("studnt: {}\nloss: {temprature: 3}\n")
        assert mistakes(capsys, *GOOD, "--config", path, "--batch.size", "x", "--optim.lrr", "3") == [
            f"--config {path}: studnt: no such option; did you mean student?",
            f"--config {path}: loss.temprature: no such option; did you mean loss.temperature?",
            "--batch.size x: expected a whole number",
            "--optim.lrr: no such option; did you mean --optim.lr?",
        ]

    def test_those_of_every_kind_too_but_none_that_only_follows_from_another(self, capsys):
        arguments = ["--task", "translaton", "--techer", "t", "--data", "d", "--eval.beams", "x", "--optim.lr", "-1"]
        assert mistakes(capsys, *arguments) == [
            "--task translaton: expected one of summarization, translation",
            "--eval.beams x: expected a whole number",
            "--techer: no such option; did you mean --teacher?",
            "--optim.lr -1.0 is too small: choose more than 0",
        ]

    def test_without_any_argument(self, capsys):
        assert mistakes(capsys) == ["--task is missing: choose summarization or translation"]

    @pytest.mark.parametrize("command", ["student", "average", "convert"])
    def test_of_other_commands(self, capsys, command):
        assert all(" is missing: name one" in line for line in mistakes(capsys, command))
        assert mistakes(capsys, command, "--output_dr", "o")[0] == (
            "--output_dr: no such option; did you mean --output_dir?"
        )
        assert mistakes(capsys, command, "stray")[0].startswith("stray: belongs to no option")


class TestMistakesInWhatIsNamed:
    """Each is found before anything is written."""

    @pytest.fixture(scope="class")
    def teacher(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return save_teacher(tmp_path_factory.mktemp("models") / "teacher", "bart", encoder_layers=6, decoder_layers=6)

    @pytest.fixture
    def command(self, teacher: Path, tmp_path: Path) -> dict[str, Any]:
        return {
            "--task": "translation",
            "--teacher": teacher,
            "--data": write_data(tmp_path / "data"),
            "--output_dir": tmp_path / "run",
            "--trainer.accelerator": "cpu",
            "--trainer.devices": 1,
        }

    def line(self, capsys: pytest.CaptureFixture, command: dict[str, Any], **changes: Any) -> str:
        changed = {**command, **{f"--{name}": value for name, value in changes.items()}}
        lines = mistakes(capsys, *(part for pair in changed.items() for part in pair))
        assert len(lines) == 1
        assert not command["--output_dir"].exists()
        return lines[0]

    def test_more_layers_than_the_teacher_has(self, capsys, command):
        line = self.line(capsys, command, **{"student.decoder_layers": 13})
        assert line == "--student.decoder_layers 13 exceeds the teacher's 6 layers: choose 1 to 6"

    def test_a_missing_data_folder(self, capsys, command, tmp_path):
        line = self.line(capsys, command, data=tmp_path / "no")
        assert line.startswith(f"--data {tmp_path}/no: no such folder or file")

    def test_source_and_target_of_unequal_length(self, capsys, command, tmp_path):
        """H20: unequal files passed."""
        path = tmp_path / "data" / "train.target"
        path.write_text(path.read_text() + "eine Zeile zu viel\n")
        line = self.line(capsys, command)
        assert str(tmp_path / "data" / "train.") in line
        assert "24" in line and "25" in line

    def test_a_blank_line(self, capsys, command, tmp_path):
        """H20: blank lines passed."""
        path = tmp_path / "data" / "val.source"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:2], "  ", *lines[3:]]) + "\n")
        line = self.line(capsys, command)
        assert str(path) in line and "3" in line

    def test_a_missing_teacher(self, capsys, command, tmp_path):
        line = self.line(capsys, command, teacher=tmp_path / "no")
        assert line.startswith(f"--teacher {tmp_path}/no: no such folder")

    def test_a_missing_student(self, capsys, command, tmp_path):
        line = self.line(capsys, command, **{"student.path": tmp_path / "no"})
        assert line.startswith(f"--student.path {tmp_path}/no: ")

    def test_an_unknown_built_in_student(self, capsys, command):
        """It was reported as --teacher."""
        line = self.line(capsys, command, **{"student.path": "demo:news"})
        assert line.startswith("--student.path demo:news: there is no such demo teacher: choose one of ")

    def test_a_missing_checkpoint(self, capsys, command):
        line = self.line(capsys, command, resume="nver")
        assert line == "--resume nver: no such checkpoint; choose a file, or auto, or never"

    def test_what_lightning_refuses(self, capsys, command):
        line = self.line(capsys, command, **{"trainer.strategy": "dppp"})
        assert line.startswith("--trainer.strategy dppp: refused by Lightning: ")

    def test_an_output_folder_that_cannot_be_made(self, capsys, command, tmp_path):
        (tmp_path / "file").write_text("")
        line = self.line(capsys, command, output_dir=tmp_path / "file")
        assert line == f"--output_dir {tmp_path}/file: File exists; choose a folder that can be written"


def test_a_command_runs_and_its_run_yaml_repeats_it(tmp_path, capsys):
    teacher, data = save_teacher(tmp_path / "teacher", "bart"), write_data(tmp_path / "data")
    arguments = f"--task translation --teacher {teacher} --data {data} {data} --output_dir {tmp_path}/first --logger []"
    arguments += " --student.decoder_layers 1 --batch.size 16 --optim.lr 0.01 --optim.warmup_steps 0 --eval.n_speed 0"
    arguments += " --eval.max_target_length 6 --trainer.max_steps 3 --trainer.val_check_interval 2 --eval.monitor loss"
    arguments += " --trainer.accelerator cpu --trainer.devices 1 --trainer.enable_progress_bar false"
    assert main(arguments.split()) == 0
    assert "chrf" in capsys.readouterr().out
    written = tmp_path / "first" / "run.yaml"
    own = parse("run", arguments.split())
    found = parse("run", ["--config", str(written)])
    assert (own.targets, own.loss) == ("auto", LossConfig())
    assert found == replace(own, targets="reference", loss=found.loss) and found.loss.alpha_mlm == 0.2
    assert len(own.data) == 2

    assert main(["--config", str(written), "--output_dir", str(tmp_path / "second")]) == 0
    first, second = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("first", "second"))
    assert first == second
    assert parse("run", ["--config", str(tmp_path / "second" / "run.yaml")]) == replace(
        found, output_dir=str(tmp_path / "second")
    )
