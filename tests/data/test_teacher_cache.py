"""The teacher's outputs on disk: what a token takes, what is lost, what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor

from seq2seq_distill.data import teacher_cache
from seq2seq_distill.data.teacher_cache import Contents, TeacherCache, pack, unpack
from seq2seq_distill.losses.sparse import SparseTeacher, drawn_tokens, top_tokens
from seq2seq_distill.utils.errors import ConfigError

TOP = Contents(vocabulary=2000, temperature=2.0, top_k=50, draws=None, precision="8bit")


def log_probabilities(positions: int = 200, vocabulary: int = 2000, size: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(vocabulary)
    sizes = size * torch.rand(positions, 1, generator=generator)
    return (sizes * torch.randn(positions, vocabulary, generator=generator)).log_softmax(-1)


def there_and_back(teacher: SparseTeacher, contents: Contents) -> SparseTeacher:
    return SparseTeacher(*unpack(pack(*teacher, contents)))


class TestPacking:
    @pytest.mark.parametrize("vocabulary", [60, 256, 257, 2000, 65_536, 65_537, 250_054])
    def test_ids_come_back(self, vocabulary: int) -> None:
        teacher = top_tokens(log_probabilities(8, vocabulary), 50)
        assert torch.equal(there_and_back(teacher, replace(TOP, vocabulary=vocabulary)).ids, teacher.ids)

    @pytest.mark.parametrize(("vocabulary", "size"), [(50_265, 150), (65_536, 150), (65_537, 200), (256_206, 200)])
    def test_bytes_of_50_tokens_and_the_rest(self, vocabulary: int, size: int) -> None:
        fields = pack(*top_tokens(log_probabilities(4, vocabulary), 50), replace(TOP, vocabulary=vocabulary))
        assert sum(field.nbytes for field in fields.values()) == 4 * size

    def test_float32_is_exact(self) -> None:
        teacher = top_tokens(log_probabilities(), 50)
        got = there_and_back(teacher, replace(TOP, precision="float32"))
        for own, other in zip(got, teacher, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-6)

    def test_eight_bits_are_off_by_few_percent_and_add_up_to_one(self) -> None:
        teacher = top_tokens(log_probabilities(), 50)
        got = there_and_back(teacher, TOP)
        torch.testing.assert_close(got.probabilities.sum(-1) + got.rest, torch.ones(200))
        torch.testing.assert_close(got.probabilities, teacher.probabilities, rtol=0.1, atol=1e-6)
        torch.testing.assert_close(got.rest, teacher.rest, rtol=0.1, atol=1e-6)

    def test_nothing_stays_nothing(self) -> None:
        sure = torch.full((3, 100), -torch.inf).scatter(1, torch.tensor([[4], [5], [6]]), 0.0)
        got = there_and_back(top_tokens(sure, 50), replace(TOP, vocabulary=100))
        assert got.probabilities.tolist() == [[1.0] + 49 * [0.0]] * 3
        assert got.rest.tolist() == [0.0] * 3 and got.negentropy.tolist() == [0.0] * 3

    def test_draws_are_exact(self) -> None:
        teacher = drawn_tokens(log_probabilities(), 50, torch.Generator().manual_seed(0))
        got = there_and_back(teacher, replace(TOP, draws=50))
        assert torch.equal(got.ids, teacher.ids)
        for own, other in zip(got[1:], teacher[1:], strict=True):
            torch.testing.assert_close(own, other)


@pytest.fixture
def encoded() -> dict[str, Dataset]:
    rows = {"input_ids": [[1, 2], [3], [4, 5]], "labels": [[1], [2, 3, 4], [5, 6]]}
    return {"train": Dataset.from_dict(rows), "val": Dataset.from_dict({name: rows[name][:1] for name in rows})}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_cache, "SHARD_ROWS", 2)


def fill(cache: TeacherCache, encoded: dict[str, Dataset]) -> None:
    for split, first in cache.missing():
        labels = [encoded[split][row]["labels"] for row in cache.rows_of(split, first)]
        rows = [
            {"teacher_ids": torch.tensor(own, dtype=torch.uint8)[:, None, None], "teacher_values": torch.ones(len(own))}
            for own in labels
        ]
        cache.write(split, first, rows)


@pytest.mark.usefixtures("small_shards")
class TestFolder:
    def test_rows_come_back_in_any_order(self, tmp_path: Path, encoded: dict[str, Dataset]) -> None:
        cache = TeacherCache(tmp_path / "c", TOP, encoded, "a teacher")
        assert cache.missing() == [("train", 0), ("train", 2), ("val", 0)] and cache.shards == cache.missing()
        fill(cache, encoded)
        assert cache.missing() == []
        train = TeacherCache(tmp_path / "c", TOP, encoded, None).split("train")
        assert train.read([2, 0, 1])["teacher_ids"].flatten().tolist() == [5, 6, 1, 2, 3, 4]
        assert train.read([])["teacher_ids"].shape == (0, 1, 1)

    def test_a_shared_folder_has_shared_shards(self, tmp_path: Path, encoded: dict[str, Dataset]) -> None:
        """safetensors 0.8 makes its files readable by their owner alone."""
        cache = TeacherCache(tmp_path, TOP, encoded, "a teacher")
        fill(cache, encoded)
        shards = list(tmp_path.glob("*/*.safetensors"))
        assert shards and all(path.stat().st_mode & 0o777 == path.parent.stat().st_mode & 0o666 for path in shards)

    def test_a_shard_that_is_not_whole_is_missing(self, tmp_path: Path, encoded: dict[str, Dataset]) -> None:
        cache = TeacherCache(tmp_path, TOP, encoded, "a teacher")
        fill(cache, encoded)
        path = tmp_path / "train" / "00000002.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        assert cache.missing() == [("train", 2)]

    @pytest.mark.parametrize(
        ("change", "flag"),
        [({"temperature": 1.0}, "`loss.temperature` 2.0"), ({"top_k": 9}, "`cache.top_k` 50"), ({"draws": 9}, "draws")],
    )
    def test_other_contents_are_refused(self, tmp_path, encoded, change, flag) -> None:
        TeacherCache(tmp_path, TOP, encoded, "a teacher")
        with pytest.raises(ConfigError, match=f"{flag}.*choose another folder, or set the same value"):
            TeacherCache(tmp_path, replace(TOP, **change), encoded, "a teacher")

    def test_another_teacher_or_other_data_are_refused(self, tmp_path: Path, encoded: dict[str, Dataset]) -> None:
        TeacherCache(tmp_path, TOP, encoded, "a teacher")
        with pytest.raises(ConfigError, match="`teacher` a teacher, but this run has another: choose another folder"):
            TeacherCache(tmp_path, TOP, encoded, "another")
        other = {**encoded, "train": encoded["train"].select([0, 1])}
        with pytest.raises(ConfigError, match="`data`, `encode` or `teacher_source`, the training split's fingerprint"):
            TeacherCache(tmp_path, TOP, other, "a teacher")

    def test_a_folder_with_other_files_is_refused(self, tmp_path: Path, encoded: dict[str, Dataset]) -> None:
        (tmp_path / "letter.txt").write_text("dear")
        with pytest.raises(ConfigError, match="contains other files: choose another folder"):
            TeacherCache(tmp_path, TOP, encoded, "a teacher")

    def test_an_empty_folder_needs_a_teacher(self, tmp_path: Path, encoded: dict[str, Dataset]) -> None:
        with pytest.raises(ConfigError, match="is empty: fill it with `distill cache`, or set `teacher`"):
            TeacherCache(tmp_path, TOP, encoded, None)

    def test_a_manifest_that_cannot_be_read(self, tmp_path: Path, encoded: dict[str, Dataset]) -> None:
        (tmp_path / "cache.json").write_text("{")
        with pytest.raises(ConfigError, match=r"cache\.json cannot be read .*choose another folder"):
            TeacherCache(tmp_path, TOP, encoded, "a teacher")
