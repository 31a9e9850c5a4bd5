"""Tokenizers, the cache of encoded data, and collation."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import xxhash
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from seq2seq_distill.data import encoding_job
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.encoding import default_cache_dir, encode_split, truncation_shares
from seq2seq_distill.data.encoding_job import EncodingJob
from seq2seq_distill.data.languages import decoder_start_token_id, forced_bos_token_id
from seq2seq_distill.data.tokenization.prefixes import default_prefix
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer, tokenizer_fingerprint, train_tokenizer
from seq2seq_distill.utils.errors import ConfigError, DataError, ModelError
from seq2seq_distill.utils.progress import Progress
from tests.tiny_tokenizers import (
    EVERY_KIND,
    SOURCES,
    TARGETS,
    m2m100_tokenizer,
    marian_tokenizer,
    mbart_tokenizer,
    nllb_tokenizer,
    plain_tokenizer,
    t5_tokenizer,
)

Make = Callable[[Path], PreTrainedTokenizerBase]
KINDS: dict[str, Make] = {**EVERY_KIND, "trained": lambda path: train_tokenizer(SOURCES + TARGETS, 300)}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


@pytest.fixture
def pairs() -> Dataset:
    return Dataset.from_dict({"source": SOURCES, "target": TARGETS})


def with_hash(content: bytes) -> bytes:
    """As the cache writes it: the hash behind the content."""
    return content + xxhash.xxh3_128(content).digest()


def encoded(pairs: Dataset, tokenizer: PreTrainedTokenizerBase, cache: Path, **options: Any) -> Dataset:
    options = {"max_source_length": 128, "max_target_length": 128, **options}
    return encode_split(pairs, tokenizer, cache_dir=cache, **options)


class TestEncodeSplit:
    def test_rows_are_those_of_the_tokenizer(self, pairs: Dataset, tmp_path: Path) -> None:
        tokenizer = plain_tokenizer()
        rows = encoded(pairs, tokenizer, tmp_path)
        assert rows.column_names[:4] == ["input_ids", "labels", "source_truncated", "target_truncated"]
        assert rows["input_ids"][:] == tokenizer(SOURCES)["input_ids"]
        assert rows["labels"][:] == tokenizer(TARGETS)["input_ids"]
        assert truncation_shares(rows) == (0.0, 0.0)
        assert rows.cache_files  # memory-mapped

    def test_marian_targets_are_not_read_by_the_source_side(self, pairs: Dataset, tmp_path: Path) -> None:
        """H23: targets were tokenised with the source's sentencepiece model."""
        tokenizer = marian_tokenizer(tmp_path)
        rows = encoded(pairs, tokenizer, tmp_path)
        vocab = tokenizer.get_vocab()
        pieces = [tokenizer.spm_target.encode(text, out_type=str) for text in TARGETS]
        assert rows["labels"][:] == [[vocab[piece] for piece in row] + [tokenizer.eos_token_id] for row in pieces]
        assert rows["labels"][:] != tokenizer(TARGETS)["input_ids"]
        assert rows["input_ids"][:] == tokenizer(SOURCES)["input_ids"]

    @pytest.mark.parametrize(
        ("make", "languages", "place"),
        [
            (EVERY_KIND["mbart"], ["en_XX", "de_DE"], -1),
            (EVERY_KIND["nllb"], ["eng_Latn", "deu_Latn"], 0),
            (EVERY_KIND["m2m100"], ["__en__", "__de__"], 0),
        ],
        ids=["mbart", "nllb", "m2m100"],
    )
    @pytest.mark.parametrize("length", [5, 128])
    def test_targets_do_not_carry_the_source_language(
        self, pairs: Dataset, tmp_path: Path, make: Make, languages: list[str], place: int, length: int
    ) -> None:
        """H23: targets of multilingual models were tokenised with the source's language code."""
        tokenizer = make(tmp_path)
        rows = encoded(pairs, tokenizer, tmp_path, max_source_length=length, max_target_length=length)
        source, target = (tokenizer.convert_tokens_to_ids(language) for language in languages)
        assert {row[place] for row in rows["input_ids"][:]} == {source}
        assert {row[place] for row in rows["labels"][:]} == {target}

    @every_kind
    def test_truncation_keeps_special_tokens_and_is_told(self, pairs: Dataset, tmp_path: Path, make: Make) -> None:
        tokenizer = make(tmp_path)
        full = encoded(pairs, tokenizer, tmp_path)
        lengths = [len(row) for row in full["labels"]]
        limit = sorted(lengths)[2]  # some rows are shorter, one at least fits exactly, some are longer
        cut = encoded(pairs, tokenizer, tmp_path, max_target_length=limit)
        assert [len(row) for row in cut["labels"]] == [min(length, limit) for length in lengths]
        assert cut["target_truncated"][:] == [length > limit for length in lengths]
        assert not any(cut["source_truncated"])
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        for row, whole in zip(cut["labels"], full["labels"], strict=True):
            assert [i for i in row if i in special] == [i for i in whole if i in special]

    def test_shares_of_truncated_texts(self) -> None:
        rows = Dataset.from_dict({"source_truncated": [True, False, False, False], "target_truncated": [False] * 4})
        assert truncation_shares(rows) == (0.25, 0.0)

    def test_prefix_stands_before_sources_alone(self, pairs: Dataset, tmp_path: Path) -> None:
        tokenizer = t5_tokenizer(tmp_path)
        rows = encoded(pairs, tokenizer, tmp_path, prefix="the girl: ")
        assert rows["input_ids"][:] == tokenizer(["the girl: " + text for text in SOURCES])["input_ids"]
        assert rows["labels"][:] == tokenizer(TARGETS)["input_ids"]

    def test_truncation_is_not_left_in_the_tokenizer(self, pairs: Dataset, tmp_path: Path) -> None:
        tokenizer = plain_tokenizer()
        encoded(pairs, tokenizer, tmp_path, max_target_length=3)
        assert tokenizer.backend_tokenizer.truncation is None


class TestCache:
    def test_second_call_reads_the_file(self, pairs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = encoded(pairs, plain_tokenizer(), tmp_path)
        monkeypatch.setattr(EncodingJob, "write", None)
        again = encoded(Dataset.from_dict(pairs[:]), plain_tokenizer(), tmp_path)
        assert again[:] == first[:]

    def test_whatever_changes_rows_changes_the_file(self, pairs: Dataset, tmp_path: Path) -> None:
        tokenizer = plain_tokenizer()
        encoded(pairs, tokenizer, tmp_path)
        encoded(pairs.select([1, 0]), tokenizer, tmp_path)
        encoded(pairs, plain_tokenizer(vocab_size=32), tmp_path)
        encoded(pairs, nllb_tokenizer(), tmp_path)
        encoded(pairs, nllb_tokenizer(tgt_lang="fra_Latn"), tmp_path)
        for option in ({"prefix": "x"}, {"max_source_length": 9}, {"max_target_length": 9}):
            encoded(pairs, tokenizer, tmp_path, **option)
        encoded(pairs, tokenizer, tmp_path, languages=("en", "de"))
        assert len(list(tmp_path.glob("*.arrow"))) == 9

    @pytest.mark.parametrize(
        "harm", ["flip", "cut", "cut at a batch", "empty", "other", "other, with a hash", "negative, with a hash"]
    )
    def test_damaged_file_is_made_again(
        self,
        pairs: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        harm: str,
    ) -> None:
        monkeypatch.setattr(encoding_job, "BATCH_ROWS", 2)
        expected = encoded(pairs, plain_tokenizer(), tmp_path)[:]
        (path,) = tmp_path.glob("*.arrow")
        content = path.read_bytes()
        half = len(content) // 2
        damaged = {
            "flip": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
            "cut": content[:half],
            # Arrow itself takes a stream without its last batches for a whole one
            "cut at a batch": content[: content.rindex(b"\xff\xff\xff\xff", 0, len(content) - 40)],
            "empty": b"",
            "other": b"something else",
            "other, with a hash": with_hash(b"something else"),
            # Arrow's own error about these is an OSError: it once ended a run
            "negative, with a hash": with_hash(b"\xff\xff\xff\xff" + b"\x80" * 60),
        }
        path.unlink()  # the first data set has the file mapped
        path.write_bytes(damaged[harm])
        assert encoded(pairs, plain_tokenizer(), tmp_path)[:] == expected
        assert path.read_bytes() == content
        assert "damaged" in caplog.text

    def test_writers_at_once_do_not_meet(self, pairs: Dataset, tmp_path: Path) -> None:
        with ThreadPoolExecutor(4) as pool:
            tokenizers = [plain_tokenizer() for _ in range(4)]
            results = list(pool.map(lambda tokenizer: encoded(pairs, tokenizer, tmp_path)[:], tokenizers))
        assert all(result == results[0] for result in results)
        assert sorted(path.suffix for path in tmp_path.iterdir()) == [".arrow", ".lock"]

    def test_place_can_be_chosen(self, pairs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SEQ2SEQ_DISTILL_CACHE", str(tmp_path / "root"))
        rows = encode_split(pairs, plain_tokenizer(), max_source_length=9, max_target_length=9, cache_dir=None)
        assert default_cache_dir() == tmp_path / "root" / "encoded"
        assert Path(rows.cache_files[0]["filename"]).parent == default_cache_dir()
        monkeypatch.delenv("SEQ2SEQ_DISTILL_CACHE")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert default_cache_dir() == tmp_path / ".cache" / "seq2seq_distill" / "encoded"

    def test_place_that_cannot_be_written_is_one_line(self, pairs: Dataset, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(DataError, match=r"file/cache: .*cannot be written.*SEQ2SEQ_DISTILL_CACHE"):
            encoded(pairs, plain_tokenizer(), tmp_path / "file" / "cache")


class TestParts:
    @pytest.fixture
    def many(self) -> Dataset:
        return Dataset.from_dict({"source": SOURCES * 5, "target": TARGETS * 5})

    @pytest.fixture(autouse=True)
    def small_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(encoding_job, "PART_ROWS", 4)
        monkeypatch.setattr(encoding_job, "BATCH_ROWS", 3)

    @pytest.mark.parametrize("make", [t5_tokenizer, marian_tokenizer], ids=["t5", "marian"])
    def test_rows_do_not_depend_on_the_number_of_processes(self, many: Dataset, tmp_path: Path, make: Make) -> None:
        before = os.environ.get("TOKENIZERS_PARALLELISM")
        whole = encoded(many, make(tmp_path), tmp_path / "one", max_target_length=4, workers=1)[:]
        shared = encoded(many, make(tmp_path), tmp_path / "three", max_target_length=4, workers=3)[:]
        assert shared == whole
        assert sorted(path.suffix for path in (tmp_path / "three").iterdir()) == [".arrow", ".lock"]
        assert os.environ.get("TOKENIZERS_PARALLELISM") == before

    def test_whole_parts_are_not_encoded_again(
        self, many: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = encoded(many, plain_tokenizer(), tmp_path / "expected")[:]
        write, done = encoding_job.write_arrow, tmp_path / "done"
        done.mkdir()

        def stopping(path: Path, schema: Any, batches: Any) -> None:
            if len(list(done.iterdir())) == 2:
                raise OSError(28, "No space left on device")
            write(path, schema, batches)
            (done / path.name).touch()

        monkeypatch.setattr(encoding_job, "write_arrow", stopping)
        with pytest.raises(DataError, match="cannot be written"):
            encoded(many, plain_tokenizer(), tmp_path / "cache", workers=1)
        (folder,) = (tmp_path / "cache").glob("*.parts")
        first = (folder / f"{0:012d}.part").stat().st_mtime_ns
        second = folder / f"{4:012d}.part"
        second.write_bytes(second.read_bytes()[:-20])
        written = []
        monkeypatch.setattr(encoding_job, "rmtree", lambda parts: written.extend(sorted(parts.iterdir())))
        monkeypatch.setattr(encoding_job, "write_arrow", write)
        counted: list[Progress] = []
        stop = Progress.stop
        monkeypatch.setattr(Progress, "stop", lambda progress: (counted.append(progress), stop(progress)))
        assert encoded(many, plain_tokenizer(), tmp_path / "cache", workers=1)[:] == expected
        assert [progress.done for progress in counted] == [len(many)]  # the last part was counted as a whole one
        assert len(many) % 4 and written[0].stat().st_mtime_ns == first  # and the damaged one was made again


class TestPrefix:
    CONFIG = SimpleNamespace(
        prefix="general: ",
        task_specific_params={
            "summarization": {"prefix": "summarize: ", "length_penalty": 2.0},
            "translation_en_to_de": {"prefix": "translate English to German: "},
        },
    )

    def test_explicit_wins_even_if_empty(self) -> None:
        assert default_prefix(self.CONFIG, "summarization", "") == ""
        assert default_prefix(self.CONFIG, "summarization", "tl;dr: ") == "tl;dr: "

    @pytest.mark.parametrize("languages", [("en", "de"), ("en_XX", "de_DE"), ("eng_Latn", "deu_Latn")])
    def test_translation_does_not_get_the_prefix_of_summarization(self, languages: tuple[str, str]) -> None:
        """H13: the parameters of "summarization" were applied last, whatever the task."""
        prefix = default_prefix(self.CONFIG, "translation", None, languages)
        assert prefix == "translate English to German: "

    def test_fallbacks(self) -> None:
        assert default_prefix(self.CONFIG, "summarization", None) == "summarize: "
        assert default_prefix(self.CONFIG, "translation", None, ("en", "fr")) == "general: "
        assert default_prefix(self.CONFIG, "translation", None) == "general: "
        assert default_prefix(SimpleNamespace(task_specific_params=None, prefix=None), "summarization", None) == ""
        assert default_prefix(SimpleNamespace(), "translation", None, ("en", "de")) == ""

    @pytest.mark.parametrize("params", [5, {"summarization": 5}, {"summarization": {"prefix": 5}}])
    def test_a_config_of_another_form_is_told_by_its_file(self, params: Any) -> None:
        config = SimpleNamespace(name_or_path="models/a", task_specific_params=params)
        with pytest.raises(ModelError, match="^config.json of models/a: .*: correct it"):  # an AttributeError once
            default_prefix(config, "summarization", None)


ids = st.lists(st.integers(0, 60), min_size=1, max_size=7)


class TestCollator:
    @settings(deadline=None, max_examples=50)
    @given(rows=st.lists(st.tuples(ids, ids), min_size=1, max_size=5), multiple=st.sampled_from([None, 1, 4]))
    def test_padding_is_what_the_masks_say(self, rows: list[tuple[list[int], list[int]]], multiple: int | None) -> None:
        features = [{"input_ids": s, "labels": t, "row": 10 + i} for i, (s, t) in enumerate(rows)]
        batch = Collator(pad_token_id=0, pad_to_multiple_of=multiple)(features)
        assert all(tensor.dtype == torch.int64 for tensor in batch.values())
        assert batch["row"].tolist() == list(range(10, 10 + len(rows)))
        for index, (source, target) in enumerate(rows):
            kept = batch["attention_mask"][index].bool()
            assert batch["input_ids"][index][kept].tolist() == source
            assert (batch["input_ids"][index][~kept] == 0).all()
            assert batch["labels"][index][batch["labels"][index] != -100].tolist() == target
        for name, side in (("input_ids", 0), ("labels", 1)):
            longest = max(len(row[side]) for row in rows)
            width = batch[name].shape[1]
            assert longest <= width < longest + (multiple or 1) and width % (multiple or 1) == 0

    def test_empty_list_gives_one_row_that_counts_nowhere(self) -> None:
        batch = Collator(pad_token_id=5, extras=("global_attention_mask",))([])
        assert {name: tensor.tolist() for name, tensor in batch.items()} == {
            "input_ids": [[5]],
            "attention_mask": [[1]],
            "labels": [[-100]],
            "row": [-1],
            "global_attention_mask": [[1]],
        }

    def test_labels_are_optional(self) -> None:
        assert set(Collator(0)([{"input_ids": [1], "row": 0}])) == {"input_ids", "attention_mask", "row"}

    def test_global_attention_is_on_the_first_token(self) -> None:
        rows = [{"input_ids": [7, 8, 9], "row": 0}, {"input_ids": [7], "row": 1}]
        mask = Collator(0, extras=("global_attention_mask",))(rows)["global_attention_mask"]
        assert mask.tolist() == [[1, 0, 0], [1, 0, 0]]

    def test_unknown_extra_is_refused(self) -> None:
        with pytest.raises(ValueError, match="unknown extra inputs: token_type_ids"):
            Collator(0, extras=("token_type_ids",))


class TestLoadTokenizer:
    @every_kind
    def test_saved_tokenizer_comes_back(self, tmp_path: Path, make: Make) -> None:
        tokenizer = make(tmp_path)
        tokenizer.save_pretrained(tmp_path / "saved")
        loaded = load_tokenizer(tmp_path / "saved", None, None)
        assert loaded(SOURCES)["input_ids"] == tokenizer(SOURCES)["input_ids"]
        labels = loaded(text_target=TARGETS)["input_ids"]
        assert labels == tokenizer(text_target=TARGETS)["input_ids"]
        if not isinstance(tokenizer.backend_tokenizer.model if tokenizer.is_fast else None, WordLevel):
            assert loaded.batch_decode(labels, skip_special_tokens=True) == TARGETS
        assert tokenizer_fingerprint(loaded) == tokenizer_fingerprint(load_tokenizer(tmp_path / "saved", None, None))

    def test_languages_given_replace_those_saved(self, tmp_path: Path) -> None:
        nllb_tokenizer().save_pretrained(tmp_path)
        loaded = load_tokenizer(tmp_path, "fra_Latn", "eng_Latn")
        assert loaded.convert_ids_to_tokens(loaded("a")["input_ids"])[0] == "fra_Latn"
        assert loaded.convert_ids_to_tokens(loaded(text_target="a")["input_ids"])[0] == "eng_Latn"
        assert tokenizer_fingerprint(loaded) != tokenizer_fingerprint(nllb_tokenizer())

    @pytest.mark.parametrize(
        ("make", "known"), [(mbart_tokenizer, "en_XX"), (nllb_tokenizer, "eng_Latn")], ids=["mbart", "nllb"]
    )
    def test_language_that_is_not_known_is_refused_with_alternatives(
        self, tmp_path: Path, make: Callable[[], PreTrainedTokenizerBase], known: str
    ) -> None:
        make().save_pretrained(tmp_path)
        with pytest.raises(ConfigError, match=f"^`src_lang` en: `teacher` .*: choose one of {known}, "):
            load_tokenizer(tmp_path, "en", None)
        with pytest.raises(ConfigError, match="^`tgt_lang` xx: `student.path` .* does not know this language"):
            load_tokenizer(tmp_path, None, "xx", field="student.path")

    def test_language_must_be_given_where_there_are_many(self, tmp_path: Path) -> None:
        tokenizer = m2m100_tokenizer(tmp_path)
        del tokenizer.init_kwargs["tgt_lang"]
        tokenizer.save_pretrained(tmp_path / "saved")
        with pytest.raises(ConfigError, match="^`tgt_lang` is missing: .* is multilingual: choose one of "):
            load_tokenizer(tmp_path / "saved", "en", None)

    def test_m2m100_languages_do_not_stay_in_decoded_text(self, tmp_path: Path) -> None:
        tokenizer = m2m100_tokenizer(tmp_path)
        tokenizer.save_pretrained(tmp_path / "saved")
        config = tmp_path / "saved" / "tokenizer_config.json"
        config.write_text(config.read_text().replace("__", "~~"))  # no language is marked as special there
        loaded = load_tokenizer(tmp_path / "saved", "en", "de")
        labels = loaded(text_target=TARGETS[0])["input_ids"]
        assert labels[0] == loaded.get_lang_id("de") == tokenizer.get_lang_id("de")
        assert loaded.decode(labels, skip_special_tokens=True) == TARGETS[0]

    def test_one_pair_tokenizers_ignore_languages(self, tmp_path: Path) -> None:
        marian_tokenizer(tmp_path).save_pretrained(tmp_path / "saved")
        assert load_tokenizer(tmp_path / "saved", "xx", "yy")(SOURCES)["input_ids"]

    @pytest.mark.parametrize("folder", ["missing", ""])
    def test_no_tokenizer_is_one_line(self, tmp_path: Path, folder: str) -> None:
        with pytest.raises(ModelError, match=r"^`teacher` .*: (no such folder|no tokenizer can be loaded)") as caught:
            load_tokenizer(tmp_path / folder, None, None)
        assert "\n" not in str(caught.value)

    def test_a_vocabulary_file_that_is_missing_is_named(self, tmp_path: Path) -> None:
        saved = tmp_path / "saved"
        marian_tokenizer(tmp_path).save_pretrained(saved)
        (saved / "target.spm").unlink()
        with pytest.raises(ModelError) as caught:
            load_tokenizer(saved)
        named = f"{saved}/target.spm is missing: the tokenizer (MarianTokenizer) needs it: add it"
        assert str(caught.value) == f"`teacher` {saved}: {named}"
        (saved / "vocab.json").unlink()
        with pytest.raises(ModelError, match=r"target.spm, \S+/vocab.json are missing: .* needs them: add them$"):
            load_tokenizer(saved)

    def test_a_damaged_vocabulary_file_is_not_called_missing(self, tmp_path: Path) -> None:
        """Nor is target_vocab.json, which only models with two vocabularies have."""
        marian_tokenizer(tmp_path).save_pretrained(tmp_path / "saved")
        (tmp_path / "saved" / "target.spm").write_bytes(b"damaged")
        with pytest.raises(ModelError, match="no tokenizer can be loaded"):
            load_tokenizer(tmp_path / "saved")


class TestForcedBos:
    def test_multilingual_targets_get_their_language_forced(self, tmp_path: Path) -> None:
        """H32: nothing was forced, so the model chose the language itself."""
        for tokenizer, code, token in (
            (nllb_tokenizer(), "fra_Latn", "fra_Latn"),
            (m2m100_tokenizer(tmp_path), "fr", "__fr__"),
        ):
            forced = forced_bos_token_id(tokenizer, code)
            assert forced == tokenizer.convert_tokens_to_ids(token)
            own = tokenizer(text_target="x")["input_ids"][0]
            assert forced_bos_token_id(tokenizer, None) == own != forced
            assert decoder_start_token_id(tokenizer, code) is None

    def test_first_mbart_starts_the_decoder_with_the_language(self) -> None:
        """Its labels end with the language, which starts the decoder: forced as well, it would come twice."""
        tokenizer = mbart_tokenizer()
        assert decoder_start_token_id(tokenizer, "ro_RO") == tokenizer.convert_tokens_to_ids("ro_RO")
        assert forced_bos_token_id(tokenizer, "ro_RO") is None

    def test_others_have_what_the_model_says(self) -> None:
        tokenizer = plain_tokenizer()
        assert forced_bos_token_id(tokenizer, "de") is None
        assert forced_bos_token_id(tokenizer, "de", SimpleNamespace(forced_bos_token_id=0)) == 0
        assert decoder_start_token_id(tokenizer, "de") is None

    def test_unknown_language_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="^`tgt_lang` de: .* choose one of deu_Latn"):
            forced_bos_token_id(nllb_tokenizer(), "de")


class TestTrainTokenizer:
    tokenizer = train_tokenizer(SOURCES + TARGETS, 320)

    @settings(deadline=None, max_examples=100)
    @given(text=st.text(st.characters(exclude_categories=["Cs"])))
    def test_any_text_comes_back_byte_for_byte(self, text: str) -> None:
        row = self.tokenizer(text)["input_ids"]
        assert row[-1] == self.tokenizer.eos_token_id and self.tokenizer.unk_token_id not in row
        assert self.tokenizer.decode(row, skip_special_tokens=True) == text

    def test_words_are_the_same_at_the_start_and_inside(self) -> None:
        alone, *inside = (self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("dog", "a dog"))
        assert inside[0][-len(alone) :] == alone

    def test_digits_stand_alone(self) -> None:
        many = train_tokenizer(["year 1999", "year 1999 and 1999"] * 50, 400)
        assert many.tokenize("1999") == ["\u0120", "1", "9", "9", "9"]

    def test_same_lines_give_the_same_tokenizer_of_the_size_asked_for(self) -> None:
        assert len(train_tokenizer(SOURCES + TARGETS, 300)) == 300
        again = train_tokenizer(iter(SOURCES + TARGETS), 320)
        assert tokenizer_fingerprint(again) == tokenizer_fingerprint(self.tokenizer)
        assert tokenizer_fingerprint(train_tokenizer(SOURCES, 320)) != tokenizer_fingerprint(self.tokenizer)

    @pytest.mark.parametrize("model_type", ["bart", "t5", "marian", "pegasus"])
    def test_loads_beside_the_config_of_any_model(self, tmp_path: Path, model_type: str) -> None:
        self.tokenizer.save_pretrained(tmp_path)
        (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}"}}')
        loaded = AutoTokenizer.from_pretrained(tmp_path)
        assert loaded(TARGETS)["input_ids"] == self.tokenizer(TARGETS)["input_ids"]
        assert (loaded.pad_token_id, loaded.eos_token_id, loaded.unk_token_id, loaded.bos_token_id) == (
            0,
            1,
            2,
            3,
        )

    def test_too_small_a_vocabulary_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="^`student.vocab_size` 64 is too small .* at least 260"):
            train_tokenizer(SOURCES, 64)


def test_fingerprint_does_not_depend_on_place_or_last_call(tmp_path: Path) -> None:
    tokenizer = plain_tokenizer()
    before = tokenizer_fingerprint(tokenizer)
    tokenizer(SOURCES, max_length=3, truncation=True, padding=True)
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_fingerprint(tokenizer) == before
    assert tokenizer_fingerprint(load_tokenizer(tmp_path, None, None)) == before
    tokenizer.truncation_side = "left"
    assert tokenizer_fingerprint(tokenizer) != before
