"""The options of labels that `distill label` and a run have in common."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

from seq2seq_distill.config.bounds import at_least, at_most, between, fraction, option
from seq2seq_distill.config.decoding import SearchOptions
from seq2seq_distill.config.problems import Problem


@dataclass(frozen=True, kw_only=True)
class LabelOptions(SearchOptions):
    """How the teacher writes targets, which of its candidates are kept, and which targets are dropped."""

    engine: Literal["auto", "transformers", "ctranslate2"] = "auto"
    """Library that decodes: auto uses CTranslate2 if it is installed, supports the model, and gives the same outputs
    for 64 sources."""
    quantization: Literal["int8", "int8_float16", "float16", "float32"] = "float32"
    """Numerical format of the weights in CTranslate2; int8 is faster and changes some outputs."""
    n_best: int = option(1, between(1, 1000))
    """Number of candidates per example."""
    keep: Literal["top1", "best-chrf", "best-bleu", "best-rouge", "mbr-chrf", "mbr-bleu", "mbr-rouge", "all"] = "top1"
    """Candidates to keep: top1, the most probable one; best-..., the one closest to the reference by chrF, BLEU or
    ROUGE-L; mbr-..., the one closest to all candidates of its row (minimum Bayes risk); or all of them."""
    max_tokens: int = option(4096, at_least(1))
    """Maximum number of source tokens decoded together, padding included."""
    shard_rows: int = option(4096, at_least(1))
    """Number of rows per shard: a shard is one file of the data set, and the most work that a killed command loses."""
    min_words: int = option(1, at_least(1))
    """Drop targets with fewer words; 1 drops empty ones only."""
    min_score: float | None = option(None, at_most(0))
    """Drop targets whose mean token log-probability under the model is below this value."""
    min_rouge2: float | None = option(None, between(0, 100))
    """Drop targets whose ROUGE-2 with the reference (0 to 100) is below this value."""
    min_chrf: float | None = option(None, between(0, 100))
    """Drop targets whose chrF2 with the reference (0 to 100) is below this value."""
    min_length_ratio: float | None = option(None, at_least(0))
    """Drop targets with fewer words per source word than this value."""
    max_length_ratio: float | None = option(None, at_least(0))
    """Drop targets with more words per source word than this value."""
    max_repetition: float | None = option(None, between(0, 1))
    """Drop targets whose fraction of repeated 4-grams exceeds this value, and short loops such as "hello hello"."""
    max_copied: float | None = option(None, between(0, 100))
    """Drop targets whose chrF2 with the source (0 to 100) exceeds this value: copied rather than translated text."""
    min_script: float | None = option(None, between(0, 1))
    """Drop targets in which the fraction of letters in the references' script is below this value."""
    drop_cut: bool = False
    """Drop pairs whose source was longer than the model reads, or whose target was stopped at the maximum length."""
    drop_unsupported: list[Literal["numbers", "names"]] = option([])
    """Drop targets with numbers, or capitalised names, that do not occur in the source; names are not checked if
    --tgt_lang capitalises all nouns."""
    backward_model: str | None = None
    """Model of the opposite direction, target to source, that scores each source given its target: a Hugging Face
    folder or hub id."""
    drop_fraction: float = option(0.0, fraction())
    """Fraction to drop of the pairs that pass all other filters: those with the lowest backward-model scores."""

    def choice_conflicts(self, group: str = "") -> Iterator[Problem]:
        """What does not go together; `group` stands before the names of the options."""
        keep, n_best = f"{group}keep", f"{group}n_best"
        if self.n_best == 1 and self.keep.startswith(("best", "mbr")):
            yield Problem(
                (keep, n_best), f"`{keep}` {self.keep} needs several candidates, and `{n_best}` is 1: raise it"
            )
        if self.drop_fraction and not self.backward_model:
            dropped, backward = f"{group}drop_fraction", f"{group}backward_model"
            yield Problem((dropped, backward), f"`{dropped}` {self.drop_fraction} needs `{backward}`: name one")

    def beam_conflicts(self, n_best: str = "n_best", beams: str = "beams") -> Iterator[Problem]:
        """More candidates than beams, of the options with these names."""
        if self.beams is not None and self.n_best > self.beams:
            yield Problem(
                (n_best, beams), f"`{n_best}` {self.n_best} needs as many beams, not `{beams}` {self.beams}: raise them"
            )

    def label_options(self) -> "dict[str, object]":
        """These options by name, those of a subclass left out."""
        return {field.name: getattr(self, field.name) for field in fields(LabelOptions)}
