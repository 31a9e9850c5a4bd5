"""The options of `distill evaluate`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seq2seq_distill.config.bounds import at_least, between, option, without_repeats
from seq2seq_distill.config.decoding import DecodingOptions
from seq2seq_distill.config.problems import Problem, join_values
from seq2seq_distill.config.run import MAX_SEED
from seq2seq_distill.config.tasks import RougeTokenizer


@dataclass(frozen=True)
class EvaluateConfig(DecodingOptions):
    """Score, time and compare models on one data set; all models are compared with the first."""

    models: list[str] = option([], required=True)
    """Models to evaluate: Hugging Face folders or hub ids, folders of `distill export`, or text files with one output
    per line."""
    names: list[str] | None = None
    """Names of the models in tables, one per model (default: the names of their folders and files)."""
    data: list[str] = option([])
    """Data sources (default: those of the first model's run)."""
    split: Literal["train", "val", "test"] = "test"
    """Split to evaluate on."""
    source_column: str | None = None
    """Column with the source texts (default: the run's, or recognised by its name)."""
    target_column: str | None = None
    """Column with the reference texts (default: the run's, or recognised by its name)."""
    n: int | None = option(None, at_least(1))
    """Evaluate only the first N examples (default: all)."""
    batch_size: int = option(32, at_least(1))
    """Number of examples decoded together, for the outputs as well as for the throughput."""
    rouge_tokenizer: RougeTokenizer = "default"
    """Tokenizer of ROUGE: default keeps a-z and 0-9 and stems, as published scores do; unicode keeps the letters of
    every script and does not stem."""
    n_speed: int = option(50, at_least(0))
    """Number of examples decoded one at a time to measure latency; 0 measures neither speed nor memory."""
    resamples: int = option(1000, between(100, 100_000))
    """Number of bootstrap samples for confidence intervals and p-values."""
    seed: int = option(12345, between(1, MAX_SEED))  # sacrebleu takes 0 for no seed
    """Random seed of the bootstrap samples; the default is sacrebleu's."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that models run on; auto uses a GPU if there is one."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Data type of the weights of Hugging Face models; an exported model keeps its own."""
    output_dir: str = option("evaluation", required=True)
    """Folder for results.json, results.md and outputs.jsonl."""
    stress: list[Literal["upper", "title", "typos", "no_stop", "emoji", "unicode"]] = option([], without_repeats)
    """Also score all models on sources with these kinds of noise, each applied to every example in turn
    (default: none)."""
    html: str | None = None
    """Also write a self-contained HTML report to this path."""
    comet: str | None = None
    """Also score translations with this COMET model: a hub id such as Unbabel/wmt22-comet-da, or a checkpoint."""
    comet_python: str | None = None
    """Python interpreter of a separate environment with unbabel-comet, which is incompatible with this package."""

    @property
    def folder(self) -> Path:
        """Where the results are written."""
        return Path(self.output_dir).expanduser()

    def conflicts(self) -> Iterator[Problem]:
        """What does not go together."""
        if self.names is not None and len(self.names) != len(self.models):
            yield Problem(
                ("names", "models"),
                f"`names` {join_values(self.names)} does not fit {len(self.models)} models: give one for each",
            )
        if self.names is not None and len(set(self.names)) < len(self.names):
            yield Problem(("names",), f"`names` {join_values(self.names)}: give each model a different name")
        if self.comet and not self.comet_python:
            yield Problem(
                ("comet", "comet_python"),
                f"`comet` {self.comet} needs `comet_python`: name the Python that has unbabel-comet",
            )
        if self.comet_python and not self.comet:
            yield Problem(
                ("comet_python", "comet"), f"`comet_python` {self.comet_python} is given without `comet`: name a model"
            )
        if self.comet and self.task == "summarization":
            yield Problem(("comet", "task"), f"`comet` {self.comet} scores translations only: leave it out")
