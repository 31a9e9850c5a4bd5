"""Chunks of two tokenisations of one text: by hand, and by rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_distill.data.chunks.alignment import align, word_ends


def ends_of(*tokens: str | bytes) -> np.ndarray:
    """Ends of tokens that follow each other."""
    return np.cumsum([len(token.encode() if isinstance(token, str) else token) for token in tokens])


def with_end(*tokens: str | bytes) -> np.ndarray:
    """The same, and the end of the sequence."""
    ends = ends_of(*tokens)
    return np.append(ends, ends[-1] + 1)


def chunked(text: str, teacher: np.ndarray, student: np.ndarray) -> tuple[list[int], list[float]]:
    """Chunks of the student's tokens, and of what is -1 for the first token of the teacher's, -2 for the second..."""
    numbers, sums = align(text, teacher, -1.0 - np.arange(len(teacher)), student)
    return numbers.tolist(), sums.tolist()


class TestByHand:
    def test_words_with_spaces(self):
        teacher = with_end("the", " girl", " re", "ads")
        student = with_end("th", "e g", "irl", " reads")
        # "the" ends inside a token of the student's, so that it makes a chunk with "girl".
        assert chunked("the girl reads", teacher, student) == ([0, 0, 0, 1, 2], [-3, -7, -5])

    def test_a_chunk_is_a_whole_word_although_tokens_meet_inside(self):
        teacher, student = with_end("un", "der", " dem", "."), with_end("un", "d", "er", " d", "em", ".")
        assert chunked("under dem.", teacher, student) == ([0, 0, 0, 1, 1, 1, 2], [-3, -7, -5])

    def test_chinese_is_read_by_characters(self):
        teacher, student = with_end("我", "来自", "北京", "。"), with_end("我来", "自", "北", "京", "。")
        assert chunked("我来自北京。", teacher, student) == ([0, 0, 1, 1, 2, 3], [-3, -3, -4, -5])

    def test_bytes_of_a_character_meet_and_make_no_chunk(self):
        teacher = with_end("a ", b"\xe5", b"\x8c\x97", "京")
        student = with_end("a ", b"\xe5", b"\x8c", b"\x97\xe4\xba\xac")
        assert chunked("a 北京", teacher, student) == ([0, 0, 0, 0, 1], [-10, -5])
        assert chunked("a 北京", teacher, with_end("a ", b"\xe5", b"\x8c", b"\x97", "京"))[0] == [0, 0, 0, 0, 1, 2]

    def test_a_mark_stays_with_its_letter(self):
        text = "กำนี้"  # of five characters two are marks on the third
        assert sorted(word_ends(text)) == [3, 6, 15]
        teacher = student = with_end(*text)
        assert chunked(text, teacher, student)[0] == [0, 1, 2, 2, 2, 3]

    def test_special_tokens_are_in_no_chunk(self):
        student = np.array([-1, *with_end("a", " b"), -1])
        assert chunked("a b", with_end("a", " ", "b"), student) == ([-1, 0, 1, 2, -1], [-1, -5, -4])

    def test_of_a_student_that_was_cut_the_rest_is_in_no_chunk(self):
        student = np.array([*ends_of("a", " lon"), -1])
        assert chunked("a long word", with_end("a", " long", " word"), student) == ([0, -1, -1], [-1])

    def test_a_teacher_that_was_cut_has_no_end(self):
        assert chunked("a b", ends_of("a", " b"), with_end("a", " b")) == ([0, 1, -1], [-1, -2])

    def test_white_space_at_the_end_is_no_word(self):
        assert chunked("a b \n", with_end("a", " b", " \n"), np.array([1, 3, 6])) == ([0, 1, 2], [-1, -5, -4])

    def test_tokens_of_no_width_count(self):
        assert chunked("a b", np.array([0, 1, 1, 3, 4]), with_end("a", " b")) == ([0, 1, 2], [-6, -4, -5])

    def test_of_nothing_nothing(self):
        assert chunked("a", np.array([], dtype=int), with_end("a")) == ([-1, -1], [])
        assert chunked("a", with_end("a"), np.array([-1, -1])) == ([-1, -1], [])


@st.composite
def two_tokenisations(draw: st.DrawFn) -> tuple[str, np.ndarray, np.ndarray]:
    text = draw(st.text(st.sampled_from("ab ,\u00e9\u5317\u4eac\u0e33\U0001f600"), min_size=1, max_size=12))
    size = len(text.encode())
    inside = st.sets(st.integers(1, size - 1)) if size > 1 else st.just(set())
    return text, *(np.array([*sorted(draw(inside)), size, size + 1]) for _ in range(2))


@given(two_tokenisations())
def test_chunks_cover_both_and_end_where_both_end(texts):
    text, teacher, student = texts
    logprobs = -np.arange(1.0, len(teacher) + 1)
    numbers, sums = align(text, teacher, logprobs, student)
    size = len(text.encode())
    assert numbers.tolist() == sorted(numbers) and set(numbers) == set(range(len(sums)))  # none is left out
    assert sums.sum() == pytest.approx(logprobs.sum())
    assert (numbers == numbers[-1]).sum() == 1  # the end of the sequence
    teacher, student = (
        np.where((ends >= len(text.rstrip().encode())) & (ends < size), size, ends) for ends in (teacher, student)
    )
    start = 0
    for number, total in enumerate(sums):
        stop = student[numbers == number][-1]
        assert stop in teacher and stop in word_ends(text) | {size + 1}
        assert total == pytest.approx(logprobs[(teacher > start) & (teacher <= stop)].sum())
        start = stop


@given(two_tokenisations())
def test_equal_tokens_give_equal_chunks(texts):
    text, teacher, _ = texts
    numbers, sums = align(text, teacher, np.full(len(teacher), -1.0), teacher)
    assert sums.tolist() == [-(numbers == number).sum() for number in range(len(sums))]
