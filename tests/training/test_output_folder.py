"""The output folder: writes that happen whole or not at all, what a run says of itself, and what may differ."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForSeq2SeqLM

from seq2seq_distill.config import LossConfig, OptimConfig, RunConfig, TrainerConfig
from seq2seq_distill.training.output_folder import OutputFolder, check_free, plain, provenance, save_model
from seq2seq_distill.utils.errors import ConfigError
from seq2seq_distill.utils.files import write_jsonl
from tests.tiny_models import tiny_model
from tests.tiny_tokenizers import plain_tokenizer

CONFIG = RunConfig(task="translation", teacher="t", data=["d"], output_dir="o")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestSavedModels:
    def test_a_model_goes_with_its_tokenizer_and_card(self, tmp_path):
        model = tiny_model("t5")
        save_model(tmp_path / "best", model, plain_tokenizer(), "# A card\n")
        assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(
            names(tmp_path / "best")
        )
        assert (tmp_path / "best" / "README.md").read_text() == "# A card\n"
        again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "best")
        assert all(value.equal(again.state_dict()[name]) for name, value in model.state_dict().items())

    def test_others_may_read_the_weights_if_they_may_read_the_folder(self, tmp_path):
        """safetensors 0.8 makes its files readable by their owner alone: no server of another user could load them."""
        for umask, mode in ((0o022, 0o644), (0o007, 0o660), (0o077, 0o600)):
            before = os.umask(umask)
            try:
                save_model(tmp_path / f"best-{umask}", tiny_model("t5"), plain_tokenizer())
            finally:
                os.umask(before)
            modes = {path.stat().st_mode & 0o777 for path in (tmp_path / f"best-{umask}").iterdir()}
            assert modes == {mode}

    def test_a_folder_with_files_is_not_replaced_by_a_verb(self, tmp_path):
        check_free(tmp_path)
        check_free(tmp_path / "new" / "folder")
        (tmp_path / "thesis.tex").write_text("the only copy")
        for taken in (tmp_path, tmp_path / "thesis.tex"):
            with pytest.raises(ConfigError, match=f"^`output_dir` {taken} is there already: choose a new folder"):
                check_free(taken)

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        for make in (check_free, lambda path: OutputFolder(path).create()):
            with pytest.raises(ConfigError, match=r"^`output_dir` \S+/file/x/y: .*; choose a folder that can be writ"):
                make(tmp_path / "file" / "x" / "y")


class TestRunYaml:
    def test_holds_the_whole_config_and_where_it_came_from(self, tmp_path):
        folder = OutputFolder(tmp_path)
        assert folder.read_run() == {}
        folder.write_run(CONFIG, provenance("abc"))
        record = yaml.safe_load((tmp_path / "run.yaml").read_text("utf-8"))
        origin = record.pop("provenance")
        assert record == plain(CONFIG)
        assert origin["data_fingerprint"] == "abc"
        assert {"torch", "transformers", "pytorch-lightning"} <= origin["versions"].keys()

    def test_a_machine_without_git_is_no_obstacle(self, monkeypatch):
        def no_git(*_, **__):
            raise FileNotFoundError("git")

        monkeypatch.setattr(subprocess, "run", no_git)
        assert provenance("abc")["git_commit"] is None

    def test_the_same_config_does_not_differ(self, tmp_path):
        folder = OutputFolder(tmp_path)
        folder.write_run(CONFIG, {})
        assert folder.differences(CONFIG) == []

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            ({"optim": OptimConfig(lr=1e-3)}, "`optim.lr` 0.001 differs from 0.0003"),
            ({"seed": 1}, "`seed` 1 differs from 42"),
            ({"data": ["d", "e"]}, "`data` ['d', 'e'] differs from ['d']"),
            ({"loss": LossConfig(temperature=1.0)}, "`loss.temperature` 1.0 differs from None"),
        ],
    )
    def test_an_option_that_changes_the_result_is_named(self, tmp_path, changes, line):
        folder = OutputFolder(tmp_path)
        folder.write_run(CONFIG, {})
        assert folder.differences(replace(CONFIG, **changes)) == [f"{line} of the run in {tmp_path}"]

    def test_what_does_not_change_the_result_may_differ(self, tmp_path):
        folder = OutputFolder(tmp_path)
        folder.write_run(CONFIG, {})
        other = replace(CONFIG, logger=["csv"], resume="never", trainer=TrainerConfig(enable_progress_bar=False))
        assert folder.differences(other) == []


def test_metrics_are_read_back(tmp_path):
    folder = OutputFolder(tmp_path)
    assert folder.read_metrics() == []
    records = [{"step": 0, "val_loss": 2.5}, {"step": 4, "val_loss": 1.5}]
    write_jsonl(folder.metrics, records)
    assert folder.read_metrics() == records
