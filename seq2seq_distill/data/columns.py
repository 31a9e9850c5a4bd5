"""Choose the source and target columns of a table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from seq2seq_distill.data.languages import match_language
from seq2seq_distill.utils.errors import DataError, format_value

WELL_KNOWN_COLUMNS = (
    ("source", "target"),
    ("document", "summary"),
    ("article", "highlights"),
    ("dialogue", "summary"),
    ("text", "summary"),
    ("article", "summary"),
)


@dataclass(frozen=True)
class Columns:
    """The columns and languages that the options name; chooses the source and target columns of a table.

    Args:
        source, target: names of the columns; "translation.en" is inside a nested one. By default the columns of
            well-known data sets, or those of the languages.
        src_lang, tgt_lang: languages of a nested `translation` column; "en_XX" or "eng_Latn" match "en" too.
        optional_target: whether a table may have no target column; `choose` names the source column alone then.
        group: the group of the options that name columns, for messages: that of a run; empty for a command.

    A name that no column has stands for the only one that differs from it in capitals or outer white space.
    """

    source: str | None = None
    target: str | None = None
    src_lang: str | None = None
    tgt_lang: str | None = None
    group: str = "encode."
    optional_target: bool = False

    def choose(self, names: Sequence[str], where: str) -> tuple[str, ...]:
        """The names of the source and of the target column; of the source column alone where there is no other.

        Raises:
            DataError: a column is missing, there twice, or cannot be told; the line opens with `where`.
        """
        chosen = self._choose(names, where)
        for name in chosen:
            if names.count(name) > 1:
                raise DataError(
                    f"{where}: column {format_value(name)} appears {names.count(name)} times: "
                    "give every column a unique name"
                )
        return chosen

    def _choose(self, names: Sequence[str], where: str) -> tuple[str, ...]:
        available = f"available columns: {format_names(names)}"
        given = [name if name is None else _like(name, names) for name in (self.source, self.target)]
        for side, wanted, name in zip(("source", "target"), (self.source, self.target), given, strict=True):
            if wanted is not None and name not in names:
                raise DataError(f"{where}: no column {wanted!r} (`{self.group}{side}_column`); {available}; choose one")
        if given[0] is not None and given[0] == given[1]:
            raise DataError(
                f"{where}: column {given[0]!r} cannot be both the source and the target (`{self.group}source_column`, "
                f"`{self.group}target_column`): name two columns"
            )
        if given[0] is not None and given[1] is not None:
            return given[0], given[1]
        for pair in (*WELL_KNOWN_COLUMNS, *self._language_columns(names)):
            source, target = (name or _like(usual, names) for name, usual in zip(given, pair, strict=True))
            if source in names and target in names and source != target:
                return source, target
        alone = given[0] or self._only_source(names)
        if self.optional_target and given[1] is None and alone is not None:
            return (alone,)
        remedy = f"name them with `{self.group}source_column` and `{self.group}target_column`"
        if any(name.startswith("translation.") for name in names):
            remedy = f"choose two languages with `src_lang` (now {self.src_lang}) and `tgt_lang` (now {self.tgt_lang})"
        raise DataError(f"{where}: cannot tell which columns are the source and the target: {remedy}; {available}")

    def _only_source(self, names: Sequence[str]) -> str | None:
        """The column of sources in a table without targets: one of a usual name or, of a single column, that one."""
        usual = dict.fromkeys(_like(source, names) for source, _ in WELL_KNOWN_COLUMNS)
        found = [name for name in usual if name in names] or list(names)
        return found[0] if len(found) == 1 else None

    def _language_columns(self, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        if self.src_lang is None or self.tgt_lang is None:
            return
        for parent in ("translation.", ""):
            keys = [name.removeprefix(parent) for name in names if name.startswith(parent)]
            source, target = match_language(self.src_lang, keys), match_language(self.tgt_lang, keys)
            if source is not None and target is not None:
                yield parent + source, parent + target


def _like(wanted: str, names: Sequence[str]) -> str:
    """`wanted` itself where there is such a column, else the only one that is spelled like it."""
    if wanted in names:
        return wanted
    alike = {name for name in names if name.strip().casefold() == wanted.casefold()}
    return alike.pop() if len(alike) == 1 else wanted


def format_names(names: Sequence[str]) -> str:
    """Column names, formatted for a message."""
    some = ", ".join(format_value(name, 40) for name in names[:12])
    return f"{some}, ..." if len(names) > 12 else some or "none"
