"""The options of `distill evaluate`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seq2seq_distill.config.bounds import join_values, tool_problems
from seq2seq_distill.utils.errors import raise_config_error


@dataclass(frozen=True)
class EvaluateConfig:
    """Score, time and compare models on one data set; the first is the one that the others are compared with."""

    models: list[str] = field(default_factory=list)
    """What to judge: Hugging Face folders or hub ids, folders of `distill export`, text files with an output a line."""
    names: list[str] | None = None
    """What the models are called in tables; by default after their folders and files."""
    data: list[str] = field(default_factory=list)
    """The data sources; by default those of the first model's run."""
    split: Literal["train", "val", "test"] = "test"
    """Split to judge on."""
    task: Literal["summarization", "translation"] | None = None
    """Says the scores and the prefix; by default the run's."""
    src_lang: str | None = None
    """Source language; by default the run's."""
    tgt_lang: str | None = None
    """Target language; by default the run's."""
    prefix: str | None = None
    """Text put before every source; by default the run's, or what a model's config says for the task (T5)."""
    source_column: str | None = None
    """Column of the sources; by default the run's, or found by its name."""
    target_column: str | None = None
    """Column of the references; by default the run's, or found by its name."""
    n: int | None = None
    """Judge on the first so many examples; by default on all."""
    beams: int | None = None
    """Beams of every model; by default the run's, or each has its own."""
    length_penalty: float | None = None
    """Exponent of the length in beam search; by default the run's, or each model has its own."""
    generate: dict[str, Any] = field(default_factory=dict)
    """Further options of transformers' generate for every model, {"no_repeat_ngram_size": 3} say; by default the
    run's."""
    max_source_length: int | None = None
    """Longest source in tokens; by default the run's, or 1024."""
    max_target_length: int | None = None
    """Most tokens to generate; by default the run's, or 142."""
    batch_size: int = 32
    """Examples decoded together, for the outputs and for the throughput."""
    n_speed: int = 50
    """Examples decoded one at a time to measure latency; 0 measures neither speed nor memory."""
    resamples: int = 1000
    """Bootstrap samples behind intervals and p."""
    seed: int = 12345
    """Of the bootstrap samples; the default is sacrebleu's."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models decode; auto is a GPU if there is one."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Type of the weights of Hugging Face models; an exported model has its own."""
    output_dir: str = "evaluation"
    """Where results.json, results.md and outputs.jsonl are written."""
    html: str | None = None
    """Also write a page for people to this file; it needs no network."""
    comet: str | None = None
    """Also score translations with this COMET model: an id, Unbabel/wmt22-comet-da say, or a checkpoint."""
    comet_python: str | None = None
    """Python of an environment in which unbabel-comet is installed; it cannot share this one."""

    @property
    def folder(self) -> Path:
        """Where the results are written."""
        return Path(self.output_dir).expanduser()

    def check(self) -> None:
        """Raise `ConfigError` with every mistake."""
        problems = tool_problems(self, "models", "output_dir")
        if self.names is not None and len(self.names) != len(self.models):
            problems.append(
                f"--names {join_values(self.names)} does not fit {len(self.models)} models: give one for each"
            )
        if self.names is not None and len(set(self.names)) < len(self.names):
            problems.append(f"--names {join_values(self.names)}: give each model a name of its own")
        if self.comet and not self.comet_python:
            problems.append(f"--comet {self.comet} needs --comet_python: name the Python that has unbabel-comet")
        if self.comet_python and not self.comet:
            problems.append(f"--comet_python {self.comet_python} comes without --comet: name the model")
        if self.comet and self.task == "summarization":
            problems.append(f"--comet {self.comet} scores translations alone: leave it out")
        if self.seed < 1:
            problems.append(f"--seed {self.seed}: sacrebleu takes that for no seed: choose 1 or more")
        raise_config_error(problems)
