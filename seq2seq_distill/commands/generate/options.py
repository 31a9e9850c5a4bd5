"""The options of `distill generate`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seq2seq_distill.config.bounds import at_least, option
from seq2seq_distill.config.decoding import DecodingOptions
from seq2seq_distill.config.problems import Problem


@dataclass(frozen=True)
class GenerateConfig(DecodingOptions):
    """Translate or summarise texts, one per line: `distill generate --model served < in.txt > out.txt`."""

    model: str = option("", required=True)
    """Model to use: the output folder of a run, a Hugging Face folder or hub id, or a folder of `distill export`."""
    input: str | None = None
    """File to read, compressed or not (default: standard input; on a terminal, texts are read line by line)."""
    output: str | None = None
    """File to write; an existing file is replaced (default: standard output)."""
    format: Literal["text", "jsonl"] = "text"
    """Format of input and output: text has one text per line; jsonl has one JSON object per line, to which the output
    and its score are added."""
    source_column: str = "source"
    """Field with the source text, in jsonl."""
    output_column: str = "output"
    """Field to which the output is written, in jsonl."""
    n_best: int = option(1, at_least(1))
    """Number of outputs per text, best first; more than 1 needs --format jsonl, which then contains lists."""
    split_sentences: bool = False
    """Split texts into sentences and decode each separately, for models trained on single sentences."""
    batch_tokens: int = option(4096, at_least(1))
    """Maximum number of source tokens that are decoded together, padding included."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that the model runs on; auto uses a GPU if there is one."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Data type of the weights of a Hugging Face model; an exported model keeps its own."""

    def conflicts(self) -> Iterator[Problem]:
        """What does not go together."""
        if self.n_best > 1 and self.format == "text":
            yield Problem(
                ("n_best", "format"),
                f"`n_best` {self.n_best} needs `format` jsonl: a line of text holds one output",
            )
        if self.n_best > 1 and self.split_sentences:
            yield Problem(
                ("n_best", "split_sentences"),
                f"`n_best` {self.n_best} does not go together with `split_sentences`: the sentences of a text have "
                "several outputs each; leave one of them out",
            )
        files = [Path(name).expanduser().resolve() for name in (self.output, self.input) if name is not None]
        if len(files) == 2 and files[0] == files[1]:
            yield Problem(
                ("output", "input"), f"`output` {self.output} is the `input` too: choose another file to write"
            )
