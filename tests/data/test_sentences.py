"""Where sentences end."""

from seq2seq_distill.data.sentences import space_between, split_sentences


def test_sentences_and_what_is_behind_them():
    parts = split_sentences("The old cats sleep.  They dream well.\n\nThe dogs bark.", "en")
    assert parts == [("The old cats sleep.", "  "), ("They dream well.", "\n\n"), ("The dogs bark.", "")]
    assert [sentence for sentence, _ in split_sentences("猫が走る。犬が寝る。", "ja")] == ["猫が走る。", "犬が寝る。"]
    assert split_sentences(" ", None) == []


def test_a_no_break_space_behind_an_initial_is_a_space():
    """Once sentencex panicked at it in `distill label`."""
    assert "".join(sentence for sentence, _ in split_sentences("by J.\u00a0Smith of London.", "en"))


def test_space_between():
    assert [space_between(language) for language in ("ja_XX", "zho_Hans", "de", None)] == ["", "", " ", " "]
