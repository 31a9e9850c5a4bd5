"""The built-in demo data: what the generators promise."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_distill import demo
from seq2seq_distill.demo import copying, docstrings, phrases
from seq2seq_distill.demo.grammar import ordinal, spell_english, spell_german
from seq2seq_distill.demo.lexicon import CLAUSES, FRAMES, Clause
from seq2seq_distill.demo.markup import clean, split_docstring, split_identifier
from seq2seq_distill.demo.slots import draw_value
from seq2seq_distill.demo.wordings import USUAL_SHARE, reword
from seq2seq_distill.utils.constants import CACHE_VARIABLE, SPLITS
from seq2seq_distill.utils.errors import ConfigError, ModelError

MODULE = '''
class LayerMap(Base):
    """Map of the layers from teacher to student.

    Layers are counted from zero.
    """

    def __init__(self, teacher_layers: int, student_layers: int = 3):
        self.layers = []

    async def getLayerNames(self, kind, *names, **others) -> list[str]:
        """Return the :class:`~a.b.Layer` names of a kind, the *first* ones first. More of it.

        >>> ignored(1)

        Args:
            kind (str): the kind of the layers, see `the page <https://example.org>`_.
        """
        def inner():
            """Names of a function inside of a function do not count."""


def no_doc(x):
    if x:
        """Not a docstring of the layers."""


def undocumented(): pass


def broken(x:
    """This is no Python."""
'''


def letters(number: int) -> str:
    """A word of its own for each number below 26**3."""
    return "".join(chr(97 + number // 26**place % 26) for place in range(3)) + "x"


@pytest.fixture(scope="module")
def sentences() -> phrases.Splits:
    return phrases.build(train_rows=1500, val_rows=100, test_rows=200)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small generators, so that whole folders are built in no time."""
    build_docstrings, build_phrases = docstrings.build, phrases.build
    monkeypatch.setattr(docstrings, "build", lambda: build_docstrings(["jsonargparse", "json"]))
    monkeypatch.setattr(phrases, "build", lambda: build_phrases(train_rows=60, val_rows=5, test_rows=10))
    monkeypatch.setattr(demo, "COPYING_ROWS", {"train": 20, "val": 2, "test": 3})


class TestDocstrings:
    def test_definitions_are_those_with_a_docstring(self) -> None:
        found = docstrings.definitions(MODULE)
        assert [(each.owner, each.name) for each in found] == [("", "LayerMap"), ("LayerMap", "getLayerNames")]
        assert found[0].arguments == ["teacher_layers", "student_layers"]
        assert found[1].arguments == ["kind", "names", "others"]

    def test_source_has_the_documented_form(self) -> None:
        method = docstrings.definitions(MODULE)[1]
        pair = docstrings.make_pair(method.name, method.owner, method.arguments, method.docstring)
        assert pair is not None
        assert pair.target == "Return the Layer names of a kind, the first ones first."
        head, _, body = pair.source.partition(" : ")
        assert head == "layer map . get layer names ( kind , names , others )"
        assert body == "More of it. kind (str): the kind of the layers, see the page."
        assert docstrings.parse_source(pair.source) == ("get layer names", body)

    def test_parse_source_reads_sources_without_arguments_or_body(self) -> None:
        assert docstrings.parse_source("close ( ) : Twice is harmless.") == ("close", "Twice is harmless.")
        assert docstrings.parse_source("file . close ( ) :") == ("close", "")
        assert docstrings.parse_source("file . close ( now , or") == ("close", "")

    def test_pairs_without_shared_words_are_dropped(self) -> None:
        assert docstrings.make_pair("f", "", ["x"], "Something else entirely happens.") is None
        assert docstrings.make_pair("layer_names", "", [], "Names of the layer.") is not None

    @pytest.mark.parametrize(
        "text", ["Too short", "See the layer names.", "Names (str, optional): the layer names", "A = b layer names"]
    )
    def test_unfit_summaries(self, text: str) -> None:
        assert not docstrings.is_summary(text)

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("getLayerNames", "get layer names"),
            ("get_layer_names", "get layer names"),
            ("BARTModel", "BART model"),
            ("NetworkXException", "network x exception"),
            ("__init__", "init"),
            ("AvgPool2d", "avg pool 2d"),
        ],
    )
    def test_split_identifier(self, name: str, words: str) -> None:
        assert split_identifier(name) == words

    @pytest.mark.parametrize(
        ("text", "plain"),
        [
            (":class:`~torch.nn.Linear` and ``num_layers``", "Linear and num layers"),
            ("[`BartModel`] and [a page](https://example.org/x)", "bart model and a page"),
            ("`text <https://example.org>`_ of **PyTorch**", "text of PyTorch"),
            ("two\n   lines ( here )", "two lines (here)"),
        ],
    )
    def test_clean(self, text: str, plain: str) -> None:
        assert clean(text) == plain

    def test_split_docstring_drops_code(self) -> None:
        summary, rest = split_docstring("Do it. Then rest::\n\n    x = 1\n\nAnd more.")
        assert (summary, "x = 1" in rest, "And more" in rest) == ("Do it", False, True)

    def test_copies_never_reach_two_splits(self) -> None:
        rows = [docstrings.Pair(f"name {letters(i)}", f"Target of {letters(i)}.") for i in range(500)]
        copies = [docstrings.Pair(f"other words {i}", row.target.upper()) for i, row in enumerate(rows)]
        splits = docstrings.split_pairs([*rows, *copies], val_rows=10, test_rows=10)
        normal = [re.sub(r"\W+", " ", pair.target.lower()) for part in splits[:3] for pair in part]
        assert max(Counter(normal).values()) == 1
        assert len(splits.val) == len(splits.test) == 10

    def test_a_pair_stays_in_its_split_when_others_come_and_go(self) -> None:
        rows = [docstrings.Pair(f"name {letters(i)}", f"Target {letters(i)}.") for i in range(300)]
        whole, half = docstrings.split_pairs(rows), docstrings.split_pairs(rows[::2])
        for every, some in zip(whole[:3], half[:3], strict=True):
            assert set(some) <= set(every)

    def test_missing_packages_are_passed_over(self) -> None:
        assert docstrings.python_files(["no_such_package_anywhere"]) == []
        files = docstrings.python_files(["json", "no_such_package_anywhere"])
        assert [Path(file).name for file in files] == sorted(Path(file).name for file in files) != []


class TestPhrases:
    def test_counts_and_lengths(self, sentences: phrases.Splits) -> None:
        assert [len(part) for part in sentences[:3]] == [1500, 100, 200]
        for pair in (pair for part in sentences[:3] for pair in part):
            assert all(phrases.WORDS[0] <= len(text.split()) <= phrases.WORDS[1] for text in pair[:2])
            assert all(re.match(r"[^a-zäöü].*[.?]$", text) and "{" not in text for text in pair[:2])

    def test_what_is_held_out_is_not_in_training(self, sentences: phrases.Splits) -> None:
        assert not any(pair.held for pair in sentences.train)
        assert all(pair.held for pair in [*sentences.val, *sentences.test])

    def test_no_sentence_twice(self, sentences: phrases.Splits) -> None:
        for side in range(2):
            assert len({pair[side] for part in sentences[:3] for pair in part}) == 1800

    def test_seed_decides(self) -> None:
        first, again, other = (phrases.build(seed, 20, 2, 2) for seed in (1, 1, 2))
        assert first == again != other

    @pytest.mark.parametrize(
        ("order", "german"),
        [
            ("main", "der Zug fährt um neun ab"),
            ("inv", "fährt der Zug um neun ab"),
            ("sub", "der Zug um neun abfährt"),
        ],
    )
    def test_german_word_orders(self, order: str, german: str) -> None:
        assert Clause("", "der Zug", "fährt", "um neun", "ab-").german(order) == german

    def test_parts_of_the_middle_may_be_turned(self) -> None:
        clause = Clause("", "der Zug", "kommt", "heute & um neun", "an-")
        assert clause.german("main") == "der Zug kommt heute um neun an"
        assert clause.german("sub", turned=True) == "der Zug um neun heute ankommt"

    def test_usual_wordings_are_chosen_more_often(self) -> None:
        draw = random.Random(0)
        words = Counter(reword("weil", draw) for _ in range(2000))
        assert set(words) == {"weil", "da"}
        assert words["weil"] / 2000 == pytest.approx(USUAL_SHARE, abs=0.05)

    def test_other_wordings_keep_endings_and_longer_words(self) -> None:
        draw = random.Random(0)
        ways = {reword("Das wichtige Auto, mit Autobahnen: Menschen", draw) for _ in range(200)}
        assert ways == {
            f"Das {adjective} {car}, mit Autobahnen: {people}"
            for adjective in ("wichtige", "bedeutende")
            for car in ("Auto", "Fahrzeug")
            for people in ("Menschen", "Leute", "Personen")
        }

    def test_sentences_begin_with_a_capital_after_a_colon_too(self, sentences: phrases.Splits) -> None:
        after = [text for pair in sentences.train if (text := pair.german.partition(": ")[2])]
        assert after and all(text[0].isupper() for text in after)  # "Wir bestätigen: unser ..." was there once

    def test_both_sides_have_the_same_slots(self) -> None:
        def slots(text: str) -> set[str]:
            return set(re.findall(r"\{(\w+)", text))

        for clause in CLAUSES:
            assert slots(clause.english) == slots(" ".join(clause[1:])), clause.english
            assert "&" not in clause.english  # the mark of parts that may be turned once stood there
        for _, english, ways in FRAMES:
            assert all(slots(english) == slots(german) for german in ways)

    @pytest.mark.parametrize(
        ("number", "english", "german"),
        [
            (1, "one", "eins"),
            (21, "twenty-one", "einundzwanzig"),
            (101, "one hundred one", "einhunderteins"),
            (234, "two hundred thirty-four", "zweihundertvierunddreißig"),
            (70_016, "seventy thousand sixteen", "siebzigtausendsechzehn"),
            (121_001, "one hundred twenty-one thousand one", "einhunderteinundzwanzigtausendeins"),
        ],
    )
    def test_number_words(self, number: int, english: str, german: str) -> None:
        assert (spell_english(number), spell_german(number)) == (english, german)

    @pytest.mark.parametrize(
        ("number", "words"),
        [
            (1, ("first", "ersten")),
            (7, ("seventh", "siebten")),
            (20, ("twentieth", "zwanzigsten")),
            (33, ("thirty-third", "dreiunddreißigsten")),
        ],
    )
    def test_ordinals(self, number: int, words: tuple[str, str]) -> None:
        assert ordinal(number) == words

    @given(seed=st.integers(0, 10**6), kind=st.sampled_from(["event", "goods", "agent"]))
    def test_declension(self, seed: int, kind: str) -> None:
        value = draw_value(kind, random.Random(seed))
        assert re.match(r"(der|die|das|(ein|unser|mein)e?) ", value.german)
        assert re.match(r"(dem|der|(ein|unser|mein)e[mr]) ", value.german_form("dat"))
        assert value.english.split()[0] in {"the", "a", "an", "our", "my"}

    @given(seed=st.integers(0, 10**6))
    def test_numbers_keep_their_digits(self, seed: int) -> None:
        for kind in ("decimal", "percent", "measure", "amount", "year", "temperature"):
            value = draw_value(kind, random.Random(seed))
            assert re.findall(r"\d", value.english) == re.findall(r"\d", value.german), value


class TestCopying:
    def test_lines(self) -> None:
        lines = copying.copy_lines(["a", "bc", "d"], 200, seed=3)
        assert lines == copying.copy_lines(["a", "bc", "d"], 200, seed=3)
        assert {len(line.split()) for line in lines} == set(range(3, 15))
        assert set(" ".join(lines).split()) == {"a", "bc", "d"}


class TestFolders:
    @pytest.mark.parametrize("short", demo.DATA)
    def test_resolve_data_writes_one_example_a_line(self, short: str, small: None, tmp_path: Path) -> None:
        folder = demo.resolve_data(f"demo:{short}", tmp_path)
        card = json.loads((folder / "card.json").read_text())
        assert card["name"] == f"demo:{short}" and card["packages"]
        for split in SPLITS:
            sides = [(folder / f"{split}.{side}").read_text().split("\n")[:-1] for side in ("source", "target")]
            assert len(sides[0]) == len(sides[1]) == card["rows"][split] > 0
            assert all(line == " ".join(line.split()) != "" for side in sides for line in side)
            assert (sides[0] == sides[1]) == (short == "copying")

    def test_built_once_and_nothing_left_over(
        self, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
        folder = demo.resolve_data("demo:translation")
        monkeypatch.setattr(phrases, "build", lambda: pytest.fail("built twice"))
        assert demo.resolve_data("demo:translation") == folder
        assert list((tmp_path / "demo").iterdir()) == [folder]

    def test_the_loser_of_a_race_takes_the_winners_folder(
        self, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow = phrases.build

        def build_while_another_finishes() -> phrases.Splits:
            monkeypatch.setattr(phrases, "build", slow)
            winner.append(demo.resolve_data("demo:translation", tmp_path))
            (winner[0] / "mark").touch()
            return slow()

        winner: list[Path] = []
        monkeypatch.setattr(phrases, "build", build_while_another_finishes)
        assert demo.resolve_data("demo:translation", tmp_path) == winner[0]
        assert (winner[0] / "mark").exists()
        assert list(tmp_path.iterdir()) == winner

    def test_a_new_version_is_a_new_folder(self, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        old = demo.resolve_data("demo:translation", tmp_path)
        monkeypatch.setattr(phrases, "VERSION", phrases.VERSION + 1)
        assert demo.resolve_data("demo:translation", tmp_path) != old

    def test_baselines(self, small: None, tmp_path: Path) -> None:
        folder = demo.resolve_data("demo:summarization", tmp_path)
        found = demo.baselines(folder)
        rows = len((folder / "test.source").read_text().splitlines())
        assert {name: len(texts) for name, texts in found.items()} == {"copy": rows, "name": rows, "body": rows}
        assert all(found["name"])
        assert set(demo.baselines(demo.resolve_data("demo:translation", tmp_path))) == {"copy"}

    def test_unknown_names(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="demo:dialogue.*demo:summarization, demo:translation, demo:copying"):
            demo.resolve_data("demo:dialogue", tmp_path)
        with pytest.raises(ConfigError, match="demo:copying.*demo:summarization, demo:translation"):
            demo.resolve_teacher("demo:copying")

    @pytest.mark.parametrize("field", ["teacher", "student.path", "model"])
    def test_an_unknown_model_names_its_option(self, field: str) -> None:
        with pytest.raises(ConfigError, match=f"^`{field}` demo:news: there is no such demo teacher"):
            demo.model_source("demo:news", field)

    def test_missing_teacher_is_one_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(demo, "__file__", str(tmp_path / "__init__.py"))
        with pytest.raises(ModelError, match=r"^`teacher` demo:translation: [^\n]*$"):
            demo.resolve_teacher("demo:translation")
        folder = tmp_path / "teachers" / "translation"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        assert demo.resolve_teacher("demo:translation") == folder

    def test_is_demo(self) -> None:
        assert demo.is_demo("demo:translation")
        assert not demo.is_demo("EdinburghNLP/xsum")
