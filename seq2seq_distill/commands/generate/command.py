"""`distill generate`: texts in, translations or summaries out, with any model."""

import logging
import os
import sys
from contextlib import suppress
from functools import partial

from seq2seq_distill.commands.generate.options import GenerateConfig
from seq2seq_distill.commands.generate.records import Record, check_input, chunks, count_lines, line_of, opened_output
from seq2seq_distill.commands.generate.sentences import generate_by_sentence
from seq2seq_distill.decoding.text_generator import Outputs, TextGenerator, open_generator
from seq2seq_distill.utils.progress import Progress

with suppress(ImportError):
    import readline  # noqa: F401  # `input` then edits lines and remembers them

logger = logging.getLogger(__name__)


def generate(config: GenerateConfig) -> None:
    """Decode all lines of the input, in order; on a terminal, line by line as they are typed.

    Raises:
        UserError: in one line; the outputs of all lines before a wrong one are written.
    """
    generator = open_generator(
        config.model, config, device=config.device, dtype=config.dtype, batch_tokens=config.batch_tokens
    )
    generator.check_n_best(config.n_best)
    try:
        if config.input is None and sys.stdin.isatty():
            _prompt(generator, config)
        else:
            generate_lines(generator, config)
    except BrokenPipeError:  # whoever read the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at its end


def generate_lines(generator: TextGenerator, config: GenerateConfig) -> None:
    """Decode all lines of the input, in order."""
    cut = done = 0
    on_terminal = config.output is None and sys.stdout.isatty()  # a bar would stand between the outputs
    lines = None if on_terminal else count_lines(config)
    check_input(config)  # before a file of outputs is emptied
    with opened_output(config) as output, Progress("decoding", lines, "lines", shown=not on_terminal) as progress:
        try:
            for records in chunks(config):
                outputs = _decode(generator, config, [record.text for record in records])
                results = map(partial(line_of, config=config), records, outputs.hypotheses)
                output.write("".join(results).encode())
                output.flush()
                cut += sum(outputs.truncated)
                done += len(records)
                progress.advance(len(records))
        finally:
            if cut:
                logger.warning(
                    "cut: %d of %d texts are longer than the %s tokens that the model reads, and lost their ends",
                    cut,
                    done,
                    generator.loaded.max_length,
                )


def _decode(generator: TextGenerator, config: GenerateConfig, texts: list[str]) -> Outputs:
    if config.split_sentences:
        return generate_by_sentence(generator, texts)
    return generator.generate(texts, config.n_best, with_scores=config.format == "jsonl")


def _prompt(generator: TextGenerator, config: GenerateConfig) -> None:
    """Read a text, show its output, and so on until Ctrl-D."""
    print("Type a text and press Enter; Ctrl-D ends.", file=sys.stderr)
    with opened_output(config) as output, suppress(EOFError, KeyboardInterrupt):
        while True:
            if sys.stdout.isatty():
                text = input("> ")
            else:  # `input` would write its prompt among the outputs
                print("> ", end="", file=sys.stderr, flush=True)
                text = input()
            fields = {config.source_column: text} if config.format == "jsonl" else None
            outputs = _decode(generator, config, [text])
            output.write(line_of(Record(text, fields), outputs.hypotheses[0], config).encode())
            output.flush()
            if outputs.truncated[0]:
                logger.warning("cut: the text is longer than the model reads, and lost its end")
    print(file=sys.stderr)
