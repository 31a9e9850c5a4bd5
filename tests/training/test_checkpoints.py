"""Checkpoints: whole or not there, damage noticed, the one before used."""

import hashlib
import logging
import os
import random
import shutil
from pathlib import Path

import pytest
import torch

from seq2seq_distill.training import checkpoints
from seq2seq_distill.training.checkpoints import HashedCheckpointIO, newest_whole, read_checkpoint
from seq2seq_distill.training.output_folder import OutputFolder
from seq2seq_distill.utils.errors import ConfigError
from seq2seq_distill.utils.files import hash_file, is_whole

CONTENT = {"state_dict": {"w": torch.arange(500.0)}, "global_step": 1, "loops": {"a": [1, 2.0, "x"]}}


@pytest.fixture
def folder(tmp_path: Path) -> OutputFolder:
    """A run's folder with two checkpoints, of steps 1 and 2."""
    folder = OutputFolder(tmp_path)
    for step in (1, 2):
        HashedCheckpointIO(folder).save_checkpoint({**CONTENT, "global_step": step}, folder.last_checkpoint)
    return folder


def step_of(path: Path | None) -> int:
    assert path is not None
    return read_checkpoint(path)["global_step"]


def test_the_one_before_is_kept_and_nothing_else(folder):
    assert (step_of(folder.last_checkpoint), step_of(folder.previous_checkpoint)) == (2, 1)
    names = {"last.ckpt", "last.ckpt.sha256", "previous.ckpt", "previous.ckpt.sha256"}
    assert {path.name for path in folder.checkpoints.iterdir()} == names


def test_the_hash_file_is_that_of_sha256sum(folder):
    found = hashlib.sha256(folder.last_checkpoint.read_bytes()).hexdigest()
    assert hash_file(folder.last_checkpoint).read_text() == f"{found}  last.ckpt\n"


def test_a_folder_without_checkpoints_has_none(tmp_path):
    assert newest_whole(OutputFolder(tmp_path)) is None


@pytest.mark.parametrize("kind", ["truncated", "one bit flipped"])
def test_100_damages_are_noticed_and_the_one_before_is_used(folder, kind, caplog):
    """torch.load notices none of the flipped bits in weights."""
    caplog.set_level(logging.WARNING)
    chance, whole = random.Random(kind), folder.last_checkpoint.read_bytes()
    for _ in range(100):
        if kind == "truncated":
            damaged = whole[: chance.randrange(len(whole))]
        else:
            place = chance.randrange(8 * len(whole))
            flipped = bytearray(whole)
            flipped[place // 8] ^= 1 << place % 8
            damaged = bytes(flipped)
        folder.last_checkpoint.write_bytes(damaged)
        caplog.clear()
        assert step_of(newest_whole(folder)) == 1
        assert "last.ckpt is damaged: resuming from previous.ckpt, the previous one" in caplog.text
        with pytest.raises(ConfigError, match=r"last\.ckpt is damaged \(its SHA-256 differs\): choose another one$"):
            read_checkpoint(folder.last_checkpoint)
    folder.last_checkpoint.write_bytes(whole)
    assert step_of(newest_whole(folder)) == 2


def test_two_damaged_ones_are_refused(folder):
    for path in (folder.last_checkpoint, folder.previous_checkpoint):
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"last\.ckpt and previous\.ckpt .* are damaged: .*`resume` PATH"):
        newest_whole(folder)


@pytest.mark.parametrize("dies_at", range(5))
def test_a_death_between_any_two_renames_leaves_a_whole_one_and_the_next_save_works(folder, dies_at, monkeypatch):
    """A death between the renames of a checkpoint and of its hash once made the next save fail."""

    class Death(BaseException):
        pass

    done, replace = [], os.replace

    def mortal(source, target):
        if len(done) == dies_at:
            raise Death
        done.append(target)
        replace(source, target)

    io = HashedCheckpointIO(folder)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, "replace", mortal)
        if dies_at < 4:
            with pytest.raises(Death):
                io.save_checkpoint({**CONTENT, "global_step": 3}, folder.last_checkpoint)
        else:
            io.save_checkpoint({**CONTENT, "global_step": 3}, folder.last_checkpoint)
    assert step_of(newest_whole(folder)) == (3 if dies_at == 4 else 2)
    io.save_checkpoint({**CONTENT, "global_step": 4}, folder.last_checkpoint)
    assert step_of(newest_whole(folder)) == 4
    assert is_whole(folder.previous_checkpoint)


def test_a_full_disk_leaves_the_earlier_ones(folder, monkeypatch):
    def full(value, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.torch, "save", full)
    before = {path: path.read_bytes() for path in folder.checkpoints.iterdir()}
    with pytest.raises(OSError, match="No space left"):
        HashedCheckpointIO(folder).save_checkpoint(CONTENT, folder.last_checkpoint)
    assert {path: path.read_bytes() for path in folder.checkpoints.iterdir()} == before


def test_one_without_a_hash_is_read_with_a_warning(folder, tmp_path, caplog):
    other = tmp_path / "other.ckpt"
    shutil.copy(folder.last_checkpoint, other)
    assert step_of(other) == 2
    assert "has no .sha256 beside it: damage would go unnoticed" in caplog.text


def test_what_is_no_checkpoint(tmp_path):
    torch.save([1], tmp_path / "list.ckpt")
    with pytest.raises(ConfigError, match=r"list\.ckpt is no Lightning checkpoint: choose one of"):
        read_checkpoint(tmp_path / "list.ckpt")
