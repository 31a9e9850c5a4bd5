"""From texts to outputs, with any model: of transformers, or exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seq2seq_distill.config.decoding import DecodingOptions
from seq2seq_distill.config.run_record import model_of_run, read_run_record, task_like, with_recorded_options
from seq2seq_distill.config.values import option_problems
from seq2seq_distill.decoding.decoder import Decoder, Hypothesis, TransformersDecoder
from seq2seq_distill.decoding.exported import open_exported
from seq2seq_distill.decoding.generation import GenerationSettings
from seq2seq_distill.decoding.likelihood import MAX_TOKENS
from seq2seq_distill.decoding.loading import LoadedModel, export_record, load_exported, load_model
from seq2seq_distill.utils.distributed import device_of
from seq2seq_distill.utils.errors import ConfigError, raise_config_error


@dataclass(frozen=True)
class Outputs:
    """Outputs of some texts; a list has an entry for each text."""

    hypotheses: list[list[Hypothesis]]
    """The best first."""
    truncated: list[bool]
    """Whether the text was longer than the model's limit, and lost its end."""


class TextGenerator:
    """Texts in, outputs out. Called with texts, it returns the best output of each.

    Args:
        decoder: decodes token ids.
        loaded: tokenizer, prefix, limits and generation settings.
        options: task and languages.
    """

    def __init__(self, decoder: Decoder, loaded: LoadedModel, options: DecodingOptions) -> None:
        self.decoder, self.loaded, self.options = decoder, loaded, options

    def __call__(self, texts: Sequence[str]) -> list[str]:
        return [best.text for best, *_ in self.generate(texts, with_scores=False).hypotheses]

    def generate(self, texts: Sequence[str], n_best: int = 1, *, with_scores: bool = True) -> Outputs:
        """The best outputs of each text; a blank text has one, which is empty.

        Raises:
            ConfigError: there are fewer beams than outputs wanted.
        """
        self.check_n_best(n_best)
        full = [row for row, text in enumerate(texts) if text.strip()]
        encoded = self.loaded.encoder.encode([texts[row] for row in full])
        decoded = self.decoder.decode(encoded.ids, n_best, with_scores=with_scores)
        hypotheses = [[Hypothesis("", (), 0, False)] for _ in texts]
        truncated = [False] * len(texts)
        for row, outputs, is_cut in zip(full, decoded, encoded.truncated, strict=True):
            hypotheses[row], truncated[row] = outputs, is_cut
        return Outputs(hypotheses, truncated)

    def check_n_best(self, n_best: int) -> None:
        """Raise ConfigError where there are fewer beams than outputs wanted."""
        beams = self.loaded.generation.num_beams or 1
        if n_best > beams and not self.loaded.generation.do_sample:
            raise ConfigError(f"`n_best` {n_best} needs as many beams, and the model has {beams}: add `beams` {n_best}")


def load_decoder(
    model: str | Path,
    *,
    device: str = "auto",
    dtype: str = "float32",
    batch_tokens: int = MAX_TOKENS,
    **options: Any,
) -> TextGenerator:
    """A model that is ready to decode: `load_decoder("served")(["A text"])`.

    Args:
        model: the output folder of a run, a Hugging Face folder or hub id, or a folder of `distill export`.
        device: auto, cpu or cuda.
        dtype: float32, float16 or bfloat16, of the weights of a Hugging Face model.
        batch_tokens: most source tokens that are decoded together, padding counted.
        options: fields of `DecodingOptions`, such as `beams` and `tgt_lang`; what is left out is as in the model's run
            or export.

    Raises:
        UserError: in one line that names an option.

    Examples:
        >>> from seq2seq_distill import load_decoder
        >>> decoder = load_decoder("demo:translation", tgt_lang="de", beams=2)
        >>> decoder(["The mayor delivered three glasses."])
        ['Der Bürgermeister lieferte drei Gläser.']
        >>> [[best, second]] = decoder.generate(["The mayor delivered three glasses."], n_best=2).hypotheses
        >>> best.score > second.score
        True
    """
    config = DecodingOptions(**options)
    raise_config_error([problem.message for problem in option_problems(config)])
    return open_generator(str(model), config, device=device, dtype=dtype, batch_tokens=batch_tokens)


def open_generator(name: str, options: DecodingOptions, *, device: str, dtype: str, batch_tokens: int) -> TextGenerator:
    """`load_decoder`, with its options in a config."""
    name = model_of_run(name)
    record = export_record(name)
    options = with_recorded_options(options, record or task_like(read_run_record(name), options))
    settings, place = GenerationSettings.of_command(options), device_of(device)
    decoder: Decoder
    if record:
        folder = Path(name).expanduser()
        loaded = load_exported(folder, "model", options, settings)
        decoder = open_exported(folder, loaded, max_tokens=batch_tokens, device=place)
    else:
        loaded = load_model(name, "model", options, settings, getattr(torch, dtype))
        decoder = TransformersDecoder(loaded, max_tokens=batch_tokens, device=place)
    return TextGenerator(decoder, loaded, options)
