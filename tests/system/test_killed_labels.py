"""`distill label` as a process of its own: killed, then gone on with by two processes."""

import signal
from pathlib import Path

import pytest

from seq2seq_distill.cli.main import main
from tests.processes import Job
from tests.system import killed_run
from tests.tiny_runs import save_teacher, write_data


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save_teacher(tmp_path / "teacher")
    write_data(tmp_path / "data", rows=60)
    return tmp_path


def arguments(place: Path, folder: str) -> list[str]:
    own = {"--model": place / "teacher", "--data": place / "data", "--output_dir": place / folder, "--shard_rows": 2}
    own |= {"--engine": "transformers", "--beams": 2, "--max_target_length": 8, "--task": "translation"}
    own |= {"--tgt_lang": "de", "--n_best": 2, "--keep": "all"}
    return ["label", *(str(word) for pair in own.items() for word in pair)]


def shards(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}


def test_killed_and_gone_on_with_by_two(place: Path) -> None:
    assert main(arguments(place, "undisturbed")) == 0
    log = place / "log"
    for writes, whole in ((2, 1), (6, 6)):  # dies when it begins to write that shard of its own
        job = Job(killed_run.label, arguments(place, "killed"), writes, log=log)
        assert job.wait() == -signal.SIGKILL, job.output()
        assert len(list((place / "killed" / "raw").glob("*.parquet"))) == whole
    Job(main, arguments(place, "killed"), log=log, processes=2).succeed()
    assert shards(place / "killed") == shards(place / "undisturbed")
    assert len(shards(place / "killed")) == 60
