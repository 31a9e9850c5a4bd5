"""Intervals and p-values: sacrebleu's own, and the same for plain means."""

import os
import random
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from seq2seq_distill.commands.evaluate.scores import corpus_scores, example_scores
from seq2seq_distill.metrics.corpus import rouge, rouge_per_example
from seq2seq_distill.metrics.significance import Loss, Mean, compare_systems, loss_of_score

WORDS = "the a cat dog man field book sat runs reads on in near old small green".split()


def corpus(seed: int, rows: int = 40) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(4, 12))) for _ in range(rows)]


def worse(texts: list[str], share: float, seed: int = 0) -> list[str]:
    """Some words replaced by others."""
    chance = random.Random(seed)
    return [" ".join(chance.choice(WORDS) if chance.random() < share else w for w in t.split()) for t in texts]


REFERENCES = corpus(0)


class TestJudge:
    @pytest.mark.parametrize("metric", [BLEU, CHRF])
    def test_figures_are_those_of_sacrebleu(self, metric, monkeypatch):
        systems = {"a": worse(REFERENCES, 0.2), "b": worse(REFERENCES, 0.3, seed=1)}
        got = compare_systems(metric(), systems, REFERENCES, 200, 7)
        monkeypatch.setenv("SACREBLEU_SEED", "7")
        _, wanted = PairedTest(list(systems.items()), {"x": metric()}, [REFERENCES], "bs", 200)()
        for own, other in zip(got.values(), wanted[metric().corpus_score(["a"], [["a"]]).name], strict=True):
            assert (own.score, own.p) == (other.score, other.p_value)
            assert (own.low, own.high) == pytest.approx((other.mean - other.ci, other.mean + other.ci))

    def test_means_are_drawn_and_judged_in_the_same_way(self):
        """Against the definition, in float64, from the same random numbers."""
        first, other = (np.array(rouge_per_example(worse(REFERENCES, 0.3, s), REFERENCES)["rougeL"]) for s in (0, 1))
        got = compare_systems(Mean(), {"a": first, "b": other}, None, 300, 5)
        rows = np.random.default_rng(5).choice(len(first), size=(300, len(first)), replace=True)
        draws = other[rows].mean(axis=1)
        gaps = np.abs(draws - first[rows].mean(axis=1))
        p = (1 + np.sum(gaps - gaps.mean() > abs(other.mean() - first.mean()))) / 301
        ordered = np.sort(draws)
        half = (ordered[300 - 300 // 40 - 1] - ordered[300 // 40]) / 2
        assert got["b"].score == pytest.approx(other.mean())
        assert got["b"].p == pytest.approx(p)
        assert (got["b"].low, got["b"].high) == pytest.approx((draws.mean() - half, draws.mean() + half), rel=1e-5)

    @pytest.mark.parametrize("metric", [BLEU, CHRF])
    def test_a_loss_is_that_of_the_same_samples(self, metric):
        """Against scores of the drawn texts themselves."""
        before, after = worse(REFERENCES, 0.2), worse(REFERENCES, 0.3, seed=1)
        got = loss_of_score(metric(), before, after, REFERENCES, 60, 7)
        draws = np.random.default_rng(7).choice(len(REFERENCES), size=(60, len(REFERENCES)), replace=True)

        def score(outputs, rows):
            return metric().corpus_score([outputs[i] for i in rows], [[REFERENCES[i] for i in rows]]).score

        losses = [score(before, rows) - score(after, rows) for rows in draws]
        assert got.loss == pytest.approx(score(before, range(40)) - score(after, range(40)))
        assert (got.low, got.high) == pytest.approx(tuple(np.quantile(losses, (0.025, 0.975))))
        assert loss_of_score(metric(), before, before, REFERENCES, 60, 7) == Loss(0.0, 0.0, 0.0)

    def test_a_loss_of_means(self):
        got = loss_of_score(Mean(), [2.0, 4.0, 6.0], [1.0, 3.0, 5.0], None, 50, 1)
        assert (got.loss, got.low, got.high) == pytest.approx((1.0, 1.0, 1.0))

    @given(st.lists(st.text("ab .", max_size=12), min_size=1, max_size=8))
    def test_a_model_against_itself_is_never_significant(self, texts):
        """sacrebleu alone would give the smallest p there is."""
        references = corpus(1, len(texts))
        values = [float(len(text)) for text in texts]
        assert compare_systems(BLEU(), {"a": texts, "b": texts}, references, 100, 1)["b"].p == 1
        assert compare_systems(Mean(), {"a": values, "b": values}, None, 100, 1)["b"].p == 1

    def test_the_smallest_p_is_that_of_sacrebleu_for_equal_systems(self):
        """Once it no longer is, `compare_systems` need not look for them."""
        _, found = PairedTest([("a", REFERENCES), ("b", REFERENCES)], {"x": BLEU()}, [REFERENCES], "bs", 100)()
        assert found["BLEU"][1].p_value == pytest.approx(1 / 101)

    def test_skill_is_told_from_chance(self):
        a, b = worse(REFERENCES, 0.3, seed=1), worse(REFERENCES, 0.3, seed=2)
        good = worse(REFERENCES, 0.05)
        found = compare_systems(CHRF(), {"a": a, "chance": b, "skill": good}, REFERENCES, 500, 1)
        assert found["a"].p is None
        assert found["skill"].p == pytest.approx(1 / 501) and found["skill"].low > found["a"].high
        assert found["chance"].p is not None and found["chance"].p > 0.05

    def test_the_seed_decides_and_the_environment_is_left_alone(self, monkeypatch):
        systems = {"a": worse(REFERENCES, 0.3, 1), "b": worse(REFERENCES, 0.3, 2)}
        monkeypatch.setenv("SACREBLEU_SEED", "none")
        one, same, other = (compare_systems(BLEU(), systems, REFERENCES, 100, seed) for seed in (1, 1, 2))
        assert one == same != other
        assert os.environ["SACREBLEU_SEED"] == "none"


class TestScores:
    def test_summaries_have_rouge_and_translations_bleu(self):
        systems = {"a": worse(REFERENCES, 0.2)}
        found = corpus_scores("summarization", systems, REFERENCES, None, "default", 100, 1)
        assert {key: own["a"].score for key, own in found.items()} == pytest.approx(rouge(systems["a"], REFERENCES))
        assert list(corpus_scores("translation", systems, REFERENCES, "de", "default", 100, 1)) == ["bleu", "chrf"]

    def test_of_one_example(self):
        own = worse(REFERENCES, 0.2)
        found = example_scores("summarization", own, REFERENCES)
        assert fmean(found) == pytest.approx(rouge(own, REFERENCES)["rougeL"])
        assert example_scores("translation", ["ab cd", "x"], ["ab cd", "yz"]) == pytest.approx([100, 0])
