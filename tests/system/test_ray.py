"""`--runner ray`: lost workers, workers that join later, errors, and the bytes of one process."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import engine
from seq2seq_distill.cli.main import main
from seq2seq_distill.commands.label import command as label_command
from seq2seq_distill.config import LabelConfig, RunnerOptions
from seq2seq_distill.data.teacher_cache import SHARD_ROWS
from seq2seq_distill.training.runners.fill import fill_shards
from seq2seq_distill.training.runners.ray_runner import worker_variables
from seq2seq_distill.training.runners.work import Fill, Work
from seq2seq_distill.training.runners.worker import Worker
from seq2seq_distill.utils.errors import ConfigError, DataError, RunError
from tests.system.toy_shards import Toy
from tests.tiny_runs import save_teacher, write_data


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A Ray of two machines with one core each, as far as Ray can tell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # workers import the tests' own work
        cluster_utils = pytest.importorskip("ray.cluster_utils")
        machine = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=machine)
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        yield cluster
        cluster.shutdown()


def fill(address: str | None, folder: Path, shards: list[str], done=lambda shard: None, **options) -> None:
    folder.mkdir(exist_ok=True)
    toy = Toy(folder)
    work = Work(shards, toy.fill, toy, lambda shard: f"shard {shard}", "`output_dir`", folder)
    fill_shards(work, RunnerOptions(runner="ray", ray_address=address, **options), done)


def test_what_a_lost_worker_had_is_done_again_and_workers_join(cluster, tmp_path, monkeypatch) -> None:
    """One is killed, one has no memory; the third worker has no room until a machine joins."""
    monkeypatch.chdir(tmp_path)
    shards = ["a", "once", "large", "third 1", "third 2", "third 3", "b"]
    told: list[str] = []

    def done(shard: str) -> None:
        told.append(shard)
        if len(told) == 1:
            joined.append(cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20))

    joined: list[object] = []
    fill(cluster.address, tmp_path / "out", shards, done, workers=3)
    cluster.remove_node(joined[0])
    assert sorted(told) == sorted(shards)
    assert len(Toy(tmp_path / "out").workers()) >= 3
    expected = f"{tmp_path} ['1', '1', '']"
    assert {(tmp_path / "out" / shard).read_text() for shard in shards} == {expected}
    assert not list((tmp_path / "out").glob(".*"))


def test_errors_end_the_command(cluster, tmp_path) -> None:
    with pytest.raises(DataError, match="^`data` d: wrong is wrong: mend it$"):
        fill(cluster.address, tmp_path / "wrong", ["wrong"])
    with pytest.raises(ZeroDivisionError, match="bug"):
        fill(cluster.address, tmp_path / "bug", ["bug"])
    with pytest.raises(RunError, match="^shard dies: 3 workers have ended over this shard, the last one thus: .*") as e:
        fill(cluster.address, tmp_path / "dies", ["dies"])
    assert "\n" not in str(e.value)
    with pytest.raises(ConfigError, match="`gpus_per_worker` 1: no machine of the cluster has room for a worker"):
        fill(cluster.address, tmp_path / "gpu", ["a"], gpus_per_worker=1)


def test_a_cluster_that_is_not_there(tmp_path) -> None:
    with pytest.raises(ConfigError, match="`ray_address` 127.0.0.1:1: no Ray cluster can be used there"):
        fill("127.0.0.1:1", tmp_path / "out", ["a"])


def test_a_folder_that_the_worker_does_not_see(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="`output_dir` .*away: the worker on .* does not see this folder"):
        Worker().open({}, b"", str(tmp_path), tmp_path / "away" / "mark", "`output_dir`")


def test_workers_have_the_settings_and_not_the_secrets(monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HF_HOME", "/hf")
    variables = worker_variables(RunnerOptions(runner="ray", cpus_per_worker=3, gpus_per_worker=0.5))
    assert variables["HF_HOME"] == "/hf" and variables["OMP_NUM_THREADS"] == "3"
    assert not {"HF_TOKEN", "CUDA_VISIBLE_DEVICES"} & variables.keys()


def test_torchrun_is_not_for_ray(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="start one process, without torchrun"):
        fill(None, tmp_path, ["a"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    save_teacher(folder / "teacher")
    write_data(folder / "data", SHARD_ROWS + 20)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """What lies in the folder, but for the locks."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", ".held"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


class DyingLabeller(label_command.OpenLabeller):
    """Its first worker is killed when it has written its second shard, before it can tell."""

    def __call__(self) -> Fill[int]:
        labeller, filled = super().__call__(), []

        def fill(shard: int) -> None:
            labeller(shard)
            filled.append(shard)
            if len(filled) == 2 and not Toy(self.path.parent).has_been_here("label"):
                os.kill(os.getpid(), signal.SIGKILL)

        return fill


def test_labels_are_those_of_one_process(cluster, place, tmp_path, monkeypatch, caplog) -> None:
    alone = LabelConfig(
        **{"model": str(place / "teacher"), "data": [str(place / "data")], "output_dir": str(tmp_path / "alone")},
        **{"task": "translation", "tgt_lang": "de", "engine": "transformers", "beams": 2, "max_target_length": 8},
        **{"shard_rows": 4, "n": 30, "backward_model": str(place / "teacher"), "drop_fraction": 0.2},
    )
    label_command.label(alone)
    monkeypatch.setattr(label_command, "OpenLabeller", DyingLabeller)
    monkeypatch.chdir(tmp_path)
    shared = replace(alone, output_dir="shared", runner="ray", ray_address=cluster.address, workers=2)
    label_command.label(shared)
    assert (tmp_path / "been-label").exists() and "another one does this" in caplog.text
    assert files(tmp_path / "shared") == files(tmp_path / "alone")


def test_a_cache_is_that_of_one_process(cluster, place, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["cache", "--task", "translation", "--src_lang", "en", "--tgt_lang", "de", "--student.decoder_layers"]
    command += ["1", "--teacher", str(place / "teacher"), "--data", str(place / "data"), "--teacher_cache"]
    assert main([*command, "alone"]) == 0
    assert main([*command, "shared", "--runner", "ray", "--ray_address", cluster.address, "--workers", "1"]) == 0
    assert len(files(tmp_path / "alone")) == 4
    assert files(tmp_path / "shared") == files(tmp_path / "alone")


@pytest.mark.soak
def test_killed_at_random_moments(tmp_path) -> None:
    """Of labels and of a cache, with four workers, two of which are killed, and one that joins."""
    for line in engine.equalities(tmp_path, rows=2000, cache_rows=9000, shard_rows=100, width=32, seed=1):
        assert line["equal"] and line["killed"] == 2 and line["joined"] == 1, line
