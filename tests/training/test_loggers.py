"""The loggers of `--logger`, and what Lightning's Trainer refuses before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seq2seq_distill.config import RunConfig, TrainerConfig, validate
from seq2seq_distill.training import run as train
from seq2seq_distill.training import trainer
from seq2seq_distill.training.output_folder import OutputFolder
from seq2seq_distill.utils.errors import ConfigError


def log_one(name: str, path: Path) -> OutputFolder:
    folder = OutputFolder(path)
    logger = trainer._logger(name, folder)
    logger.log_metrics({"loss": 0.5}, step=3)
    logger.save()
    logger.finalize("success")
    return folder


class TestLoggers:
    def test_csv(self, tmp_path: Path) -> None:
        [file] = log_one("csv", tmp_path).logs.rglob("metrics.csv")
        assert file.read_text().split() == ["loss,step", "0.5,3"]

    def test_tensorboard(self, tmp_path: Path) -> None:
        events = EventAccumulator(str(log_one("tensorboard", tmp_path).logs))
        events.Reload()
        assert [(scalar.step, scalar.value) for scalar in events.Scalars("loss")] == [(3, 0.5)]

    def test_mlflow(self, tmp_path: Path) -> None:
        pytest.importorskip("mlflow")
        [file] = log_one("mlflow", tmp_path).logs.rglob("metrics/loss")  # MLflow 3.17 refused this once
        assert file.read_text().split()[1:] == ["0.5", "3"]

    def test_wandb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("wandb")
        monkeypatch.setenv("WANDB_MODE", "offline")
        assert list(log_one("wandb", tmp_path).logs.rglob("*.wandb"))

    @pytest.mark.parametrize("server", [None, "http://localhost:5000"])
    def test_mlflow_goes_to_its_server_or_into_the_folder(
        self, server: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[dict[str, Any]] = []
        monkeypatch.setattr(trainer, "MLFlowLogger", lambda **options: asked.append(options))
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        if server:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
        else:
            monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        trainer._logger("mlflow", OutputFolder(tmp_path))
        assert asked == [{"tracking_uri": server or f"file:{tmp_path}/logs"}]

    def test_a_logger_that_fails_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(**options: Any) -> None:
            raise RuntimeError("the tracking backend\nis in maintenance mode")

        monkeypatch.setattr(trainer, "MLFlowLogger", fail)  # its message named flags of the Trainer once
        with pytest.raises(ConfigError, match="^`logger` mlflow: the tracking backend is in maintenance mode$"):
            trainer._logger("mlflow", OutputFolder(tmp_path))

    @pytest.mark.parametrize("name", ["mlflow", "wandb"])
    def test_one_that_is_not_installed_is_told_before_anything_is_loaded(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("seq2seq_distill.utils.optional.find_spec", lambda package: None)
        with pytest.raises(
            ConfigError, match=rf"`logger` {name} needs the package {name}: run pip install 'seq2seq_distill\[{name}\]'"
        ):
            validate(RunConfig(task="translation", teacher="t", data=["d"], logger=[name]))  # type: ignore[list-item]


@pytest.mark.parametrize("options", [{"accelerator": "gpu"}, {"strategy": "dppp"}])
def test_what_lightning_refuses_is_told_before_anything_is_loaded(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "build_components", lambda config: pytest.fail("the parts were loaded"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = RunConfig(
        task="translation",
        teacher="t",
        data=["d"],
        output_dir=str(tmp_path / "run"),
        trainer=TrainerConfig(**options),
    )
    [(name, value)] = options.items()
    with pytest.raises(ConfigError, match=f"`trainer.{name}` {value}: refused by Lightning: "):
        train.run_config(config)
