"""A text whose pieces are all kept is segmented as before, whatever else is gone."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.shrink.vocabulary import cut_tokenizer, vocabulary_of
from tests.shrink.kinds import KINDS
from tests.tiny_models import tiny_model
from tests.tiny_tokenizers import SOURCES, TARGETS

WORDS = {"source": " ".join(SOURCES).split(), "target": " ".join(TARGETS).split()}
SEEDS = st.integers(0, 2**32 - 1)
SIDES = {"source": "text", "target": "text_target"}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A model, its tokenizer, and some texts with their ids, side by side."""
    model_type, make = KINDS[request.param]
    tokenizer = make(tmp_path_factory.mktemp(request.param))
    model = tiny_model(model_type)
    chance = random.Random(0)
    texts = {side: [" ".join(chance.choices(words, k=3)) for _ in range(60)] for side, words in WORDS.items()}
    ids = {side: TextEncoder(tokenizer, SIDES[side]).encode(lines).ids for side, lines in texts.items()}
    return model, tokenizer, texts, ids


def drawn(vocabulary, ids, covered, extra, seed):
    """For each table, the pieces of some texts and some others, and all that must stay."""
    chance = random.Random(seed)
    kept = []
    for table, sides in zip(vocabulary.tables, vocabulary.sides, strict=True):
        token_of = {number: token for token, number in table.ids.items()}
        pieces = [token_of[number] for side in sides for row in chance.sample(ids[side], covered) for number in row]
        others = sorted(set(table.ids) - table.dropped)
        others = chance.sample(others, int(extra * len(others)))
        kept.append(table.with_ancestors([*table.special, *table.required, *pieces, *others]))
    return kept


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(covered=st.integers(1, 4), extra=st.floats(0, 0.8), seed=SEEDS)
def test_covered_texts_keep_their_pieces(kind, covered, extra, seed):
    model, tokenizer, texts, ids = kind
    vocabulary = vocabulary_of(model, tokenizer)
    kept = drawn(vocabulary, ids, covered, extra, seed)
    cut, orders = cut_tokenizer(vocabulary, kept, model.config)
    for table, sides, order in zip(vocabulary.tables, vocabulary.sides, orders, strict=True):
        assert order[: len(table.special)] == list(table.special)  # the lowest ids
        rows = [table.ids[token] for token in order]
        for side in sides:
            inside = [number for number, row in enumerate(ids[side]) if set(row) <= set(rows)]
            assert len(inside) >= covered
            after = TextEncoder(cut, SIDES[side]).encode([texts[side][number] for number in inside]).ids
            assert [[rows[number] for number in row] for row in after] == [ids[side][number] for number in inside]


def test_without_ancestors_covered_texts_change(tmp_path):
    """The mistake of scripts that cut merges by the kept pieces alone."""
    model_type, make = KINDS["nllb"]
    model, tokenizer = tiny_model(model_type), make(tmp_path)
    vocabulary = vocabulary_of(model, tokenizer)
    [table] = vocabulary.tables
    before = [tokenizer.convert_ids_to_tokens(row) for row in tokenizer(SOURCES)["input_ids"]]
    kept = {*table.special, *(piece for row in before for piece in row)}
    changed = {}
    for name, pieces in (("alone", kept), ("with ancestors", table.with_ancestors(kept))):
        cut, _ = cut_tokenizer(vocabulary, [pieces], model.config)
        after = [cut.convert_ids_to_tokens(row) for row in cut(SOURCES)["input_ids"]]
        changed[name] = sum(old != new for old, new in zip(before, after, strict=True))
    assert changed["with ancestors"] == 0 < changed["alone"]


def test_an_unknown_character_does_not_become_cheaper(tmp_path):
    """The piece of the lowest score stays: it decides what an unknown character costs."""
    model_type, make = KINDS["mbart"]
    vocabulary = vocabulary_of(tiny_model(model_type), make(tmp_path))
    scores = vocabulary._scores
    assert min(scores, key=scores.get) in vocabulary.tables[0].required


@pytest.mark.parametrize("name", KINDS)
def test_special_tokens_survive_saving_and_loading(name, tmp_path):
    model_type, make = KINDS[name]
    (tmp_path / "pieces").mkdir()
    model, tokenizer = tiny_model(model_type), make(tmp_path / "pieces")
    vocabulary = vocabulary_of(model, tokenizer)
    letters = [token for token in vocabulary.tables[0].ids if len(token) == 1]
    kept = [table.with_ancestors([*table.special, *table.required, *letters]) for table in vocabulary.tables]
    cut, orders = cut_tokenizer(vocabulary, kept, model.config)
    folder = tmp_path / "saved"
    model.config.save_pretrained(folder)
    cut.save_pretrained(folder)
    loaded = AutoTokenizer.from_pretrained(folder)
    assert type(loaded) is type(tokenizer)
    assert len(loaded) == len(orders[0])
    assert loaded.convert_tokens_to_ids(list(orders[0])) == list(range(len(orders[0])))
    for role in ("pad", "eos", "bos", "unk", "mask"):
        token = getattr(tokenizer, f"{role}_token", None)
        assert getattr(loaded, f"{role}_token", None) == token
        if token is not None:
            assert getattr(loaded, f"{role}_token_id") == orders[0].index(str(token))
    assert {"<extra_id_0>", "<unk_2>"}.isdisjoint(loaded.get_vocab())
    if hasattr(loaded, "set_tgt_lang_special_tokens"):
        frame = {side: tokenizer(**{side: ""})["input_ids"] for side in SIDES.values()}
        rows = [vocabulary.tables[0].ids[token] for token in orders[0]]
        assert {side: [rows[n] for n in loaded(**{side: ""})["input_ids"]] for side in frame} == frame
    if vocabulary.tables[0].spells_bytes:
        text = "größer, 北京"
        assert loaded.decode(loaded(text)["input_ids"], skip_special_tokens=True).strip() == text
