"""Which pieces stay, and which models are refused."""

import numpy as np
import pytest
from tokenizers import BertWordPieceTokenizer
from transformers import PreTrainedTokenizerFast

from seq2seq_distill.shrink.piece_choice import choose_pieces
from seq2seq_distill.shrink.pieces import PieceTable, parts_by_merges, parts_by_splits
from seq2seq_distill.shrink.trimming import ParallelTexts, trim_vocabulary
from seq2seq_distill.shrink.vocabulary import cut_tokenizer, vocabulary_of
from seq2seq_distill.utils.errors import ConfigError, ModelError
from tests.shrink.kinds import KINDS
from tests.tiny_models import tiny_model
from tests.tiny_tokenizers import SOURCES, TARGETS, plain_tokenizer

TOKENS = ["<pad>", "</s>", "a", "b", "c", "ab", "abc", "bc", "cc", "d"]
MERGES = [("a", "b"), ("ab", "c"), ("c", "c"), ("b", "c")]
TABLE = PieceTable(
    {token: number for number, token in enumerate(TOKENS)}, ("<pad>", "</s>"), parts=parts_by_merges(MERGES)
)


def counts(**by_token: int) -> np.ndarray:
    return np.array([by_token.get(token, 0) for token in TOKENS], np.int64)


class TestChoice:
    def test_a_piece_comes_with_all_that_it_is_merged_from(self):
        assert TABLE.with_ancestors(["abc"]) == {"abc", "ab", "a", "b", "c"}
        assert TABLE.with_ancestors(["abc"], kept={"ab", "a", "b"}) == {"abc", "c"}

    def test_sentencepiece_merges_whatever_makes_a_piece(self):
        parts = parts_by_splits({"ab", "bc", "abc", "abcd"})
        assert set(parts("abc")) == {"a", "bc", "ab", "c"}
        assert set(parts("abcd")) == {"abc", "d"}

    def test_coverage_is_reached_on_each_side_with_the_most_frequent_pieces(self):
        source, target = counts(ab=90, cc=10), counts(bc=50, cc=50)
        kept = choose_pieces(TABLE, [source, target], coverage=0.9)
        assert kept == {"<pad>", "</s>", "ab", "a", "b", "cc", "c", "bc"}
        assert "bc" not in choose_pieces(TABLE, [source, target], coverage=0.5)
        assert "cc" not in choose_pieces(TABLE, [source], coverage=0.9)

    def test_special_tokens_do_not_count(self):
        frequent = counts(**{"</s>": 10**6, "ab": 1})
        assert "ab" in choose_pieces(TABLE, [frequent], coverage=0.9)

    def test_characters_that_occur_stay_and_what_is_needed(self):
        kept = choose_pieces(TABLE, [counts(ab=100, d=1)], coverage=0.5, needed=["cc"])
        assert {"d", "cc", "c"} <= kept

    def test_size_is_the_most_that_stay(self):
        for size in range(6, 11):
            kept = choose_pieces(TABLE, [counts(abc=10, bc=5, cc=3)], size=size)
            assert size - 1 <= len(kept) <= size or len(kept) == 9  # "d" does not occur

    def test_a_size_too_small_says_how_much_is_needed(self):
        with pytest.raises(ConfigError, match=r"`trim.size` 3 is too small .*choose at least 5"):
            choose_pieces(TABLE, [counts(abc=10)], size=3)


class TestRefusals:
    @pytest.mark.parametrize("model_type", ["fsmt", "prophetnet"])
    def test_architectures(self, model_type):
        with pytest.raises(ModelError, match=f"{model_type} models cannot be trimmed"):
            vocabulary_of(tiny_model(model_type), plain_tokenizer())

    def test_word_pieces(self):
        vocab = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=BertWordPieceTokenizer(vocab)._tokenizer)
        with pytest.raises(ModelError, match="of the kind WordPiece"):
            vocabulary_of(tiny_model("bart"), tokenizer)

    def test_two_vocabularies_for_any_but_marian(self, tmp_path):
        with pytest.raises(ModelError, match=r"`trim.separate` true: a t5 model has one vocabulary"):
            vocabulary_of(tiny_model("t5"), KINDS["t5"][1](tmp_path), separate=True)

    def test_unknown_languages(self, tmp_path):
        model, tokenizer = tiny_model("m2m_100"), KINDS["nllb"][1](tmp_path)
        with pytest.raises(ConfigError, match=r"`trim.languages` xx: .*choose one of"):
            vocabulary_of(model, tokenizer, languages=["xx"])
        with pytest.raises(ConfigError, match=r"`trim.languages` de: the model has no tokens for languages"):
            vocabulary_of(tiny_model("bart"), plain_tokenizer(), languages=["de"])

    def test_coverage_and_size_at_once(self):
        with pytest.raises(ConfigError, match=r"give one of the two"):
            trim_vocabulary(tiny_model("bart"), plain_tokenizer(), ParallelTexts(SOURCES, TARGETS))


def test_languages_that_are_not_wanted_go(tmp_path):
    model, tokenizer = tiny_model("m2m_100"), KINDS["nllb"][1](tmp_path)
    vocabulary = vocabulary_of(model, tokenizer, languages=["fra_Latn", "eng_Latn"])
    table = vocabulary.tables[0]
    cut, [order] = cut_tokenizer(vocabulary, [set(table.ids) - table.dropped], model.config)
    assert {"fra_Latn", "eng_Latn"} <= set(order)
    assert {"deu_Latn", "zho_Hans"}.isdisjoint(cut.get_vocab())
    cut.src_lang = "fra_Latn"
    assert cut("a")["input_ids"][0] == order.index("fra_Latn")
