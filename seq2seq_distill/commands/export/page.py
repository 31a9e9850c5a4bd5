"""The page that runs an exported model in a browser."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from babel import Locale
from jinja2 import Environment, StrictUndefined

from seq2seq_distill.commands.export.options import ExportConfig
from seq2seq_distill.data.languages import base_language
from seq2seq_distill.decoding.loading import LoadedModel
from seq2seq_distill.utils.files import write_text

TRANSFORMERS_JS = "4.3.1"
SERVE = (
    f"npm install --ignore-scripts --no-save @huggingface/transformers@{TRANSFORMERS_JS} "
    "&& python -m http.server --bind 127.0.0.1"
)
"""Commands that serve the page from its folder."""
"""Version of @huggingface/transformers that the page was tested with."""

LANGUAGES = Locale("en").languages
"""Names by two-letter code."""


def write_page(folder: Path, config: ExportConfig, loaded: LoadedModel) -> None:
    """Write index.html into a folder with ONNX files."""
    template = (files(__package__) / "page.html").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    write_text(
        folder / "index.html",
        environment.from_string(template).render(**_words(config), settings=_settings(config, loaded)),
    )


def _words(config: ExportConfig) -> dict[str, str]:
    """What the page says, of its task and languages."""
    if config.task == "summarization":
        labels = {"title": "Summarise", "source_label": "Text", "target_label": "Summary"}
        return {**labels, "verb": "Summarise", "unit": "summary"}
    source, target = map(_language_name, (config.src_lang, config.tgt_lang))
    pair = f" {source} to {target}" if source and target else ""
    labels = {"source_label": f"Text in {source}" if source else "Text", "target_label": "Translation"}
    return {"title": f"Translate{pair}", **labels, "verb": "Translate", "unit": "sentence"}


def _language_name(code: str | None) -> str:
    """In English; the code itself where it has no name."""
    return LANGUAGES.get(base_language(code), code) if code else ""


def _settings(config: ExportConfig, loaded: LoadedModel) -> dict[str, Any]:
    return {
        "version": TRANSFORMERS_JS,
        "dtype": "q8" if config.precision == "int8" else "fp32",
        "prefix": loaded.prefix,
        "longest": loaded.max_length,
        "language": base_language(config.src_lang) if config.src_lang else "en",
        "by_sentence": config.task != "summarization",
    }
