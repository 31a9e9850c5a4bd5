"""The options of `distill label`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seq2seq_distill.config.bounds import tool_problems
from seq2seq_distill.utils.errors import format_value, raise_config_error


@dataclass(frozen=True)
class LabelConfig:
    """Let a model write the targets of a data set (pseudo-labels), or score those that it has, and filter them."""

    model: str = ""
    """The teacher: a Hugging Face folder or hub id, or a folder made by `distill export`."""
    data: list[str] = field(default_factory=list)
    """What to label: sources as a run takes them; by default the data of the model's run."""
    output_dir: str = ""
    """Where the labelled data set is written; on the same folder the same command goes on where it was."""
    split: Literal["train", "val", "test"] = "train"
    """Which split."""
    n: int | None = None
    """Only the first n rows."""
    targets: Literal["generate", "reference"] = "generate"
    """generate: the model writes them; reference: keep the data's own, scored by the model, to filter them."""
    task: Literal["summarization", "translation"] | None = None
    """Says the prefix and the way to decode, where the model's config has some for it; by default the run's."""
    src_lang: str | None = None
    """Source language; by default the run's."""
    tgt_lang: str | None = None
    """Target language; by default the run's."""
    prefix: str | None = None
    """Text put before every source; by default what the model's config says for the task (T5)."""
    source_column: str | None = None
    """Column of the source text; by default found by name."""
    target_column: str | None = None
    """Column of the reference; by default found by name."""
    engine: Literal["auto", "transformers", "ctranslate2"] = "auto"
    """auto: CTranslate2 where it is installed, takes the model, and gives the same outputs for 64 sources."""
    quantization: Literal["int8", "int8_float16", "float16", "float32"] = "float32"
    """Of the weights of CTranslate2's model; int8 is faster and changes some outputs."""
    beams: int | None = None
    """Beams; by default the model's own generation config."""
    n_best: int = 1
    """Candidates for each row."""
    sample: bool = False
    """Draw the candidates instead of searching for them."""
    temperature: float = 1.0
    """With sample: of the distribution."""
    top_k: int = 0
    """With sample: draw from so many likeliest tokens; 0 draws from all."""
    top_p: float = 1.0
    """With sample: draw from the likeliest tokens that have this mass together."""
    seed: int = 42
    """With sample: of the draws."""
    keep: Literal["top1", "best-chrf", "best-bleu", "best-rouge", "all"] = "top1"
    """Which candidates stay: the likeliest, the closest to the reference (by chrF, BLEU or ROUGE-L), or all."""
    max_source_length: int = 1024
    """Longest source in tokens; longer ones are cut. Never more than the model's positions."""
    max_target_length: int = 142
    """Most tokens to generate."""
    length_penalty: float | None = None
    """Length penalty of beam search; by default the model's own."""
    generate: dict[str, Any] = field(default_factory=dict)
    """Further options of transformers' generate, for example {"no_repeat_ngram_size": 3}."""
    max_tokens: int = 4096
    """Source tokens decoded together, padding counted."""
    shard_rows: int = 4096
    """Rows of a shard: what is lost when the command is killed, and one file of the data set."""
    min_words: int = 1
    """Drop targets of fewer words; 1 drops the empty ones."""
    min_score: float | None = None
    """Drop targets whose mean log-probability under the model is below this."""
    min_gain: float | None = None
    """With --targets reference: drop targets that their source makes more likely by less than this, in mean
    log-probability, than another row's source does."""
    min_rouge2: float | None = None
    """Drop targets whose ROUGE-2 with the reference, 0 to 100, is below this."""
    min_chrf: float | None = None
    """Drop targets whose chrF2 with the reference, 0 to 100, is below this."""
    min_length_ratio: float | None = None
    """Drop targets with fewer words than so many times those of the source."""
    max_length_ratio: float | None = None
    """Drop targets with more words than so many times those of the source."""
    max_repetition: float | None = None
    """Drop targets in which a larger share of the 4-grams has been there before in the same target."""
    max_copied: float | None = None
    """Drop targets whose chrF2 with the source, 0 to 100, is above this: not translated."""
    min_script: float | None = None
    """Drop targets in which a smaller share of the letters is of the references' script."""
    backward_model: str | None = None
    """A model of the other direction, target to source: it scores each source given its target."""
    drop_fraction: float = 0.0
    """Drop this share of what the other filters leave, the worst by the backward model."""

    @property
    def folder(self) -> Path:
        """Where the data set is written."""
        return Path(self.output_dir).expanduser()

    def check(self) -> None:
        """Raise `ConfigError` with every mistake."""
        problems = tool_problems(self, "model", "output_dir")
        wrong = {line.split()[0] for line in problems}
        raise_config_error([*problems, *(line for line in _conflicts(self) if wrong.isdisjoint(line.split()))])


def _conflicts(config: LabelConfig) -> Iterator[str]:
    """What does not go together."""
    if config.sample and (config.beams or 1) > 1:
        yield f"--beams {config.beams} does not go with --sample: leave one out"
    if config.sample and config.engine == "ctranslate2":
        yield "--engine ctranslate2 cannot repeat its draws after a stop: leave it out with --sample"
    if config.beams is not None and config.n_best > config.beams and not config.sample:
        yield f"--n_best {config.n_best} needs as many beams, not --beams {config.beams}: raise them"
    for name in ("temperature", "top_k", "top_p", "do_sample"):
        if name in config.generate:
            flag = "--sample" if name == "do_sample" else f"--{name}"
            yield f"--generate {name}={format_value(config.generate[name])} has a flag of its own: use {flag}"
    if config.n_best == 1 and config.keep.startswith("best"):
        yield f"--keep {config.keep} has nothing to choose from with --n_best 1: raise it"
    if config.drop_fraction and not config.backward_model:
        yield f"--drop_fraction {config.drop_fraction} needs --backward_model: name one"
    if config.targets == "generate" and config.min_gain is not None:
        yield f"--min_gain {config.min_gain} is for the data's own targets: leave it out, or add --targets reference"
    if config.targets == "reference":
        given = {"n_best": config.n_best > 1, "sample": config.sample, "engine": config.engine == "ctranslate2"}
        given["generate"] = bool(config.generate)
        given |= {name: getattr(config, name) is not None for name in ("min_rouge2", "min_chrf")}
        for name in (name for name, is_given in given.items() if is_given):
            yield f"--{name} {getattr(config, name)} is for targets that the model writes: leave it out"
