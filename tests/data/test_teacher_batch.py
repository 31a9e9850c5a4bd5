"""Sources of the teacher's own in config and batch."""

from dataclasses import replace

import pytest
import torch
from transformers import MarianTokenizer

from seq2seq_distill.config import EncodeConfig, RunConfig, TeacherSourceConfig
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.teacher_inputs import attach_teacher_inputs, teacher_batch, teacher_run_config
from seq2seq_distill.data.tokenization.tokenizer_comparison import only_sources_differ
from tests.tiny_tokenizers import marian_tokenizer, mbart_tokenizer, separate_marian_tokenizer

CONFIG = RunConfig(src_lang="en", tgt_lang="de", encode=EncodeConfig(prefix="a", max_source_length=9))


class TestConfig:
    def test_without_options_the_teacher_reads_as_the_student(self):
        assert teacher_run_config(CONFIG) == CONFIG

    @pytest.mark.parametrize(
        ("own", "read"),
        [
            ({"prefix": "b"}, ("b", 9, "en")),
            ({"prefix": ""}, ("", 9, "en")),
            ({"max_length": 4}, ("a", 4, "en")),
            ({"src_lang": "fr"}, ("a", 9, "fr")),
        ],
    )
    def test_an_option_is_the_teachers_alone(self, own, read):
        config = replace(CONFIG, teacher_source=TeacherSourceConfig(**own))
        other = teacher_run_config(config)
        assert (other.encode.prefix, other.encode.max_source_length, other.src_lang) == read
        assert (other.tgt_lang, other.encode.max_target_length) == ("de", config.encode.max_target_length)


class TestBatch:
    EXTRAS = ("global_attention_mask",)

    def batch(self, *sources: list[int], extras: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
        rows = [{"input_ids": ids, "labels": [7, 8], "row": row} for row, ids in enumerate(sources)]
        return Collator(0, extras)(rows)

    def test_a_batch_of_one_view_is_the_teachers_too(self):
        batch = self.batch([3, 4], [5])
        assert teacher_batch(batch) is batch

    @pytest.mark.parametrize(("ours", "theirs"), [((), ()), (EXTRAS, ()), ((), EXTRAS), (EXTRAS, EXTRAS)])
    def test_the_teachers_batch_comes_back_whatever_fields_a_side_has(self, ours, theirs):
        own, other = self.batch([3, 4], [5], extras=ours), self.batch([9, 9, 3], [9, 9], extras=theirs)
        both = attach_teacher_inputs(own, other)
        assert all(both[name] is field for name, field in own.items())
        found = teacher_batch({**both, "teacher_ids": 1})
        assert found.keys() == {*other, "teacher_ids"}
        assert all(torch.equal(found[name], field) for name, field in other.items())


class TestTokenizers:
    def test_other_sources_and_the_same_targets(self, tmp_path):
        few, many = (separate_marian_tokenizer(tmp_path / str(n), n) for n in (40, 60))
        assert only_sources_differ(few, many) and only_sources_differ(many, few)
        assert not only_sources_differ(few, separate_marian_tokenizer(tmp_path / "again", 40))

    def test_a_vocabulary_of_targets_is_compared_whole(self, tmp_path):
        """None of the probe texts has the token."""
        few, many = (separate_marian_tokenizer(tmp_path / str(n), n) for n in (40, 60))
        few.target_encoder["never"] = len(few.target_encoder)
        assert not only_sources_differ(few, many)

    def test_special_tokens_are_compared(self, tmp_path):
        few, many = (separate_marian_tokenizer(tmp_path / str(n), n) for n in (40, 60))
        few.add_special_tokens({"bos_token": "<s>"})
        assert not only_sources_differ(few, many)

    def test_pieces_of_sources_alone_in_a_vocabulary_of_both(self, tmp_path):
        usual = marian_tokenizer(tmp_path)
        files = {side: str(tmp_path / "marian" / f"{side}.spm") for side in ("source", "target")}
        vocab = str(tmp_path / "marian" / "vocab.json")
        assert only_sources_differ(MarianTokenizer(files["target"], files["target"], vocab), usual)
        assert not only_sources_differ(MarianTokenizer(files["source"], files["source"], vocab), usual)
        assert not only_sources_differ(MarianTokenizer(files["source"], files["target"], vocab), usual)

    def test_a_language_of_sources_is_no_matter_of_targets(self):
        assert only_sources_differ(mbart_tokenizer("fr_XX"), mbart_tokenizer("en_XX"))
        assert not only_sources_differ(mbart_tokenizer("en_XX", "fr_XX"), mbart_tokenizer("en_XX"))
