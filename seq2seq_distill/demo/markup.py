"""Docstrings to plain text: reStructuredText, Markdown and identifiers made into words, on one line."""

import re
from collections.abc import Callable

_BODY_CHARACTERS = 800  # of a body are cleaned: more than enough for the words that are kept
_NAMES = frozenset(  # written as one word, though they look like identifiers
    """PyTorch NumPy SciPy SymPy NetworkX TensorFlow TensorBoard JavaScript TypeScript CoffeeScript GitHub OpenAI
    PyArrow HuggingFace LaTeX MathML JupyterLab IPython MacOS PostScript DataFrame DataFrames MultiIndex OpenCL OpenMP
    cuDNN LoRA QLoRA gRPC    """.split()
)

_FENCE = re.compile(r"```.*?(```|\Z)|~~~.*?(~~~|\Z)", re.S)
_LITERAL = re.compile(r"::[ \t]*\n(?:[ \t]*\n)*(?P<indent>[ \t]+)\S.*(?:\n(?:(?P=indent).*|[ \t]*))*")
_RULES: tuple[
    tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...
] = (  # modest cleaning of reStructuredText, Markdown and HTML; the order matters
    (re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)"), r"\1"),  # [text](url)
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`_{0,2}"), r"\1"),  # `text <url>`_
    (re.compile(r":[a-z]+(?::[a-z]+)?:`(?:[^`<]*<)?~?!?\.?([^`<>]*)>?`"), r"`\1`"),  # :role:`target`
    (re.compile(r"\{\{.*?\}\}|<!--.*?-->|</?[A-Za-z][^<>\n]{0,40}>"), " "),
    (re.compile(r"<?https?://\S+"), " "),
    (re.compile(r"\[`~?([^`\]]*)`\]"), r"`\1`"),  # [`Name`]
    (re.compile(r"`~?([A-Za-z_][\w.]*\.)?([A-Za-z_]\w*)(\(\))?`"), r" \2 "),  # `a.b.name()` -> name
    (re.compile(r"\|([A-Za-z]\w*)\||\[\d+\]_?|\b_\w+_\d+_\b"), r"\1"),
    (re.compile(r"[`*]+|[-=~^+]{4,}|\$\$?|\\[a-z]+\b|\\"), " "),
    (
        re.compile(r"\b(?:[a-z_]\w*\.){1,5}(\w+)(?:\(\))?"),
        lambda m: m[0] if len(m[0]) < 6 or m[1].isdigit() else m[1],
    ),
    (re.compile(r"\(\)"), ""),
)
_DROPPED_LINE = re.compile(
    r"\s*(?:>>>|\.\.\.(?:\s|$)|\.\. |@|[-=~^#+*_\s|]{3,}$|:r?type\b|#+ |(?:args?|arguments?):$|param(?:eter)?s?:?$)",
    re.I,
)
_END_OF_PROSE = re.compile(
    r"\s*(?:examples?|references?|see also|shape|doctests?|usage|authors?|todo|notes?|sample)s?\s*(?::+\s*$|$)",
    re.I,
)
_FIELD = re.compile(r":(?P<kind>param|returns?|raises?|arg|ivar|var|keyword)\b\s*(?P<name>[^:\n]*):", re.I)
_WORD_PARTS = re.compile(r"\d+[dD](?![a-z])|[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_IDENTIFIER = re.compile(r"\b(?:[A-Za-z]\w*_\w*|_+\w+|[A-Za-z]*[a-z]\d*[A-Z]\w*|[A-Z]{2,}[a-z]{2,}\w*)\b")
_SENTENCE_END = re.compile(r"(?<![.\s][a-z])(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)(?<!\bcf)[.!?:]\s+(?=[A-Z])")


def split_identifier(name: str) -> str:
    """`getLayerNames`, `get_layer_names` -> `get layer names`; capitals are kept: `BARTModel` -> `BART model`."""
    parts = _WORD_PARTS.findall(name)
    return " ".join(part if len(part) > 1 and part.isupper() and part.isalpha() else part.lower() for part in parts)


def clean(text: str) -> str:
    """Markup removed, identifiers split into words, white space collapsed to one line."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = _IDENTIFIER.sub(lambda match: match[0] if match[0] in _NAMES else split_identifier(match[0]), text)
    text = re.sub(r"\s+([,.;:)])", r"\1", " ".join(text.split()))
    return re.sub(r"\(\s+", "(", text).strip()


def _field_text(match: re.Match[str]) -> str:
    """`:param x:` -> `x:`, `:return:` -> `Returns:`, `:raises X:` -> `Raises X:`."""
    kind, name = match["kind"].lower(), match["name"].split()[-1:]
    words = (["Returns"] if kind.startswith("return") else ["Raises"] if kind.startswith("raise") else []) + name
    return " ".join(words) + ":"


def body_text(rest: str) -> str:
    """The rest of a docstring on one line: prose and the arguments' descriptions, without examples, code and tables."""
    kept: list[str] = []
    for line in rest[:_BODY_CHARACTERS].splitlines():
        if _END_OF_PROSE.match(line):
            break
        line = _FIELD.sub(_field_text, line)
        if not _DROPPED_LINE.match(line):
            kept.append(line)
    return clean("\n".join(kept)).strip(" :-")


def split_docstring(docstring: str) -> tuple[str, str]:
    """`(summary, rest)` of a docstring. The summary is the clean first sentence of the first paragraph, without its
    full stop; the rest is still to be cleaned."""
    text = _LITERAL.sub(".\n", _FENCE.sub(" ", docstring)).strip()
    first, _, rest = text.partition("\n\n")
    first = clean(first)
    end = _SENTENCE_END.search(first)
    if end:
        first, rest = first[: end.start()], f"{first[end.end() :]}\n{rest}"
    return first.rstrip(" .:;!"), rest
