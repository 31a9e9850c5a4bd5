"""Numbers and names that a source does not have."""

import pytest

from seq2seq_distill.training.labels.support import unsupported, unsupported_names, unsupported_numbers


@pytest.mark.parametrize(
    ("source", "target", "count"),
    [
        ("It costs 1,000 euros.", "Es kostet 1.000 Euro.", 0),
        ("It costs 1,000 euros.", "Es kostet 1.500 Euro.", 1),
        ("at 10:30 on 3 May", "am 3. Mai um 10.30 Uhr", 0),
        ("no number", "12 and 13", 2),
        ("عام ١٩٩٠", "in 1990", 0),
        ("x²", "x", 0),
        ("100 000 people", "100 people", 0),
    ],
)
def test_numbers(source, target, count):
    assert unsupported_numbers(source, target) == count


@pytest.mark.parametrize(
    ("source", "target", "count"),
    [
        ("the mayor of London spoke", "The mayor of London spoke. He left.", 0),
        ("the mayor spoke", "The mayor of London spoke.", 1),
        ("london's mayor", "The mayor of London", 0),
        ("a talk by NASA", "a talk by Nasa", 0),
        ("a man", 'He said: "Good day." Then Anna Berg left', 2),
        ("a man", "The\nOther (Big)", 1),
        ("人", "人が走る", 0),
    ],
)
def test_names(source, target, count):
    assert unsupported_names(source, target) == count


def test_kinds_add_up():
    assert unsupported(["numbers", "names"], "a man", "the man Bob, 7") == 2
    assert unsupported([], "a man", "the man Bob, 7") == 0
