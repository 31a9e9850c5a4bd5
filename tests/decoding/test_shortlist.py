"""IBM Model 1 against a loop over dictionaries, candidates against sets, CTranslate2's file against its rules."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from seq2seq_distill.data.tokenization.token_rows import TokenRows
from seq2seq_distill.decoding.shortlist import model1
from seq2seq_distill.decoding.shortlist.candidates import CandidateRanks, Shortlist, choose, measure
from seq2seq_distill.decoding.shortlist.model1 import learn_lexicon
from seq2seq_distill.decoding.shortlist.vmap import VMAP, check_settings, write_vmap
from seq2seq_distill.utils.errors import ConfigError

SIZE = 9
rows = st.lists(st.integers(1, SIZE - 1), max_size=4)
pairs = st.lists(st.tuples(rows, rows), min_size=1, max_size=6)
FEW = settings(deadline=None, max_examples=60)


def by_definition(examples, rounds):
    """t(f|e) of Brown et al. (1993), one link after the other; the source None is NULL."""
    linked = {(e, f) for source, target in examples for e in [None, *source] for f in target}
    t = dict.fromkeys(linked, 1.0)
    for _ in range(rounds):
        counts: dict = defaultdict(float)
        for source, target in examples:
            for f in target:
                total = sum(t[e, f] for e in [None, *source])
                for e in [None, *source]:
                    counts[e, f] += t[e, f] / total
        sums: dict = defaultdict(float)
        for (e, _), count in counts.items():
            sums[e] += count
        t = {(e, f): count / sums[e] for (e, f), count in counts.items()}
    return {(e, f): value for (e, f), value in t.items() if e is not None}


def learned(examples, rounds=6, **options):
    sources, targets = (TokenRows.from_lists(side) for side in zip(*examples, strict=True))
    lexicon = learn_lexicon(sources, targets, rounds, **options)
    triples = zip(lexicon.sources.tolist(), lexicon.targets.tolist(), lexicon.probabilities.tolist(), strict=True)
    return {(e, f): value for e, f, value in triples}


class TestModel1:
    @FEW
    @given(examples=pairs, rounds=st.integers(1, 6))
    def test_probabilities_are_those_of_the_definition(self, examples, rounds):
        assert learned(examples, rounds) == pytest.approx(by_definition(examples, rounds))

    def test_parts_change_nothing(self, monkeypatch):
        examples = [([1, 2, 3], [4, 5]), ([2], [5, 6, 7]), ([], [4]), ([1, 1], []), ([3, 2], [7])]
        whole = learned(examples)
        monkeypatch.setattr(model1, "_CHUNK", 3)
        assert learned(examples) == pytest.approx(whole)

    def test_of_too_many_examples_every_nth_is_read(self):
        examples = [([1 + i % 4], [1 + i % 3]) for i in range(12)]  # two links each, with that of NULL
        assert learned(examples, max_links=8) == learned(examples[::3])

    def test_the_best_come_first(self):
        examples = [([1], [3]), ([1, 2], [3, 4]), ([2], [4])]
        sources, targets = (TokenRows.from_lists(side) for side in zip(*examples, strict=True))
        lexicon = learn_lexicon(sources, targets)
        assert lexicon.sources.tolist() == [1, 1, 2, 2] and lexicon.targets.tolist() == [3, 4, 4, 3]


TOKENS = [f"t{number}" for number in range(SIZE)]


def ranked(examples, vocabularies=(TOKENS, TOKENS), special=(0,)):
    sources, targets = (TokenRows.from_lists(side) for side in zip(*examples, strict=True))
    return CandidateRanks(learn_lexicon(sources, targets), targets, vocabularies, np.array(special))


def candidates_in(folder, source):
    """As CTranslate2 reads its file: those of every source, and those of each of its pieces."""
    found = {}
    for line in (folder / VMAP).read_text("utf-8").split("\n")[:-1]:
        key, _, values = line.partition("\t")
        assert key not in found and values
        found[key] = set(values.split(" "))
    return found[""].union(*(found.get(TOKENS[piece], ()) for piece in source))


class TestCandidates:
    @FEW
    @given(examples=pairs, frequent=st.integers(1, 4), best=st.integers(0, 3), data=st.data())
    def test_what_is_counted_is_what_the_file_says(self, examples, frequent, best, data, tmp_path_factory):
        folder = tmp_path_factory.mktemp("model")
        ranks = ranked(examples)
        sources = [[*source, 0] for source, _ in examples]
        outputs = [[0, *data.draw(rows)] for _ in examples]
        [size] = measure(ranks, sources, outputs, [frequent], [best])
        write_vmap(folder, ranks, size, (TOKENS, TOKENS))
        found = [candidates_in(folder, source) for source in sources]
        assert size.mean_candidates == pytest.approx(np.mean([len(each) for each in found]))
        covered = [TOKENS[piece] in each for output, each in zip(outputs, found, strict=True) for piece in output[1:]]
        assert size.coverage == pytest.approx(np.mean(covered) if covered else 1)

    def test_they_are_frequent_pieces_the_best_translations_and_copies(self):
        examples = [([1], [5, 8]), ([1, 2], [5, 6, 8]), ([2, 3], [6, 7, 8]), ([3], [7, 8])]
        ranks = ranked(examples)
        assert ranks.always(1).tolist() == [0, 8]
        lines = {source: sorted(found.tolist()) for source, found in ranks.lines(1, 1)}
        assert {source: lines[source] for source in (1, 2, 3, 4)} == {1: [1, 5], 2: [2, 6], 3: [3, 7], 4: [4]}
        assert 8 not in lines, "a candidate of every source needs no line"

    def test_pieces_that_the_file_cannot_hold_are_no_candidates(self, tmp_path):
        tokens = ["<s>", "a", "a b", "c\td", "e\nf", "", "g\u2028h", "i", "j"]
        examples = [([number], [number] * 3) for number in range(1, 9)]
        ranks = ranked(examples, (tokens, tokens))
        assert {tokens[target] for target in ranks.always(99)} == {"<s>", "a", "g\u2028h", "i", "j"}
        [size] = measure(ranks, [[1], [2]], [[1], [2]], [1], [1])
        assert size.coverage == 0.5
        write_vmap(tmp_path, ranks, Shortlist(0, 1, 0.0, 0.0), (tokens, tokens))
        lines = (tmp_path / VMAP).read_text("utf-8").split("\n")
        assert lines == ["\t<s>", "a\ta", "g\u2028h\tg\u2028h", "i\ti", "j\tj", ""]

    def test_two_vocabularies_share_the_pieces_of_one_name(self):
        ranks = ranked([([1], [2])], (["<s>", "x", "same"], ["</s>", "same", "y"]))
        assert {source: found.tolist() for source, found in ranks.lines(0, 1)} == {1: [2], 2: [1]}

    def test_the_fewest_candidates_that_cover_enough(self):
        sizes = [Shortlist(50, 0, 0.9, 50), Shortlist(50, 10, 0.99, 90), Shortlist(100, 0, 0.99, 100)]
        assert choose(sizes, 0.9) == sizes[0] and choose(sizes, 0.95) == sizes[1] and choose(sizes, 1.0) == sizes[1]
        assert choose(sizes, 0.9, least_frequent=1000) == sizes[2]


@pytest.mark.parametrize(
    "options",
    [
        {"no_repeat_ngram_size": 3},
        {"repetition_penalty": 1.2},
        {"suppress_tokens": [7]},
        {"bad_words_ids": [[1], [7, 8]]},
    ],
)
def test_settings_that_look_tokens_up_are_refused(options):
    check_settings(GenerationConfig(pad_token_id=1, bad_words_ids=[[1]], num_beams=4, min_length=3), "it", "stop")
    [name] = options
    with pytest.raises(ConfigError, match=rf"`generate`: {name} .* cannot be used with it: set .*{name}.*, or stop$"):
        check_settings(GenerationConfig(pad_token_id=1, **options), "it", "stop")
