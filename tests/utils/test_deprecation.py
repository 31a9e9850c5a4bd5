"""Old names work and warn."""

import pytest

import seq2seq_distill
from seq2seq_distill.utils.deprecation import renamed_arguments


@renamed_arguments(own="extensions")
def extended(extensions: int = 0) -> int:
    return extensions


def test_an_old_argument_warns_and_is_taken():
    with pytest.warns(FutureWarning, match="'own' is now 'extensions'"):
        assert extended(own=3) == 3  # type: ignore[call-arg]


def test_both_names_are_refused():
    with pytest.raises(TypeError, match="got both 'own' and its new name 'extensions'"):
        extended(own=1, extensions=2)  # type: ignore[call-arg]


@pytest.mark.parametrize(("old", "new"), seq2seq_distill._RENAMED.items())
def test_an_old_public_name_warns_and_is_the_new_one(old, new):
    with pytest.warns(FutureWarning, match=f"{old} is now {new}"):
        assert getattr(seq2seq_distill, old) is getattr(seq2seq_distill, new)
