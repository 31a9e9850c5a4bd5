"""What a language model is asked: a template, filled in with the source and what is known of the task."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from seq2seq_distill.utils.errors import ConfigError, format_value

Api = Literal["chat", "completions"]
Message = dict[str, str]
"""The keys role and content."""

PLACEHOLDERS = ("source", "src_language", "tgt_language", "style")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Template:
    """A text with the placeholders {source}, {src_language}, {tgt_language} and {style}.

    A line with a placeholder that has no value is left out; braces around anything else stand for themselves.

    Args:
        text: of the template; white space at its end is ignored.
        name: that of the file, for messages.

    Raises:
        ConfigError: the source is missing from it, or a placeholder is unknown.
    """

    def __init__(self, text: str, name: str) -> None:
        self._lines = text.rstrip().splitlines()
        self.placeholders = frozenset(_PLACEHOLDER.findall(text))
        unknown = sorted(self.placeholders - set(PLACEHOLDERS))
        if unknown:
            known = ", ".join(f"{{{placeholder}}}" for placeholder in PLACEHOLDERS)
            raise ConfigError(f"`prompt` {name}: {{{unknown[0]}}} is unknown: choose among {known}")
        if "source" not in self.placeholders:
            raise ConfigError(f"`prompt` {name} has no {{source}}: write it where the text to work on belongs")

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with these values."""
        return "\n".join(
            _PLACEHOLDER.sub(lambda match: values[match[1]], line)
            for line in self._lines
            if all(name in values for name in _PLACEHOLDER.findall(line))
        )


def load_template(path: str | None, task: str, api: Api) -> Template:
    """The template in a file, or the built-in one of a task.

    Raises:
        ConfigError: the file cannot be read, or is no template.
    """
    if path is None:
        name = f"{task}.{api}.txt"
        return Template((files(__package__) / "templates" / name).read_text("utf-8"), name)
    try:
        text = Path(path).expanduser().read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"`prompt` {path}: {error.strerror}: name a text file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"`prompt` {path} is not UTF-8: save it as such") from None
    return Template(text, format_value(path))


@dataclass(frozen=True)
class Prompts:
    """Makes the prompt of each source."""

    template: Template
    values: Mapping[str, str]
    """Of the placeholders, but for the source."""
    shots: Sequence[tuple[str, str]] = ()
    """Pairs of source and target that are shown before each source."""
    spare: tuple[str, str] | None = None
    """Stands in for the pair of `shots` whose source is the one that is asked about."""

    def messages(self, source: str) -> list[Message]:
        """The conversation that ends with the question about a source; each pair is a question and its answer."""
        messages = []
        for shot, target in self._shots(source):
            messages += [_message("user", self._fill(shot)), _message("assistant", target)]
        return [*messages, _message("user", self._fill(source))]

    def text(self, source: str) -> str:
        """The text whose continuation is the target; pairs stand before it, with a blank line after each."""
        shots = "".join(f"{self._fill(shot)} {target}\n\n" for shot, target in self._shots(source))
        return shots + self._fill(source)

    @property
    def fingerprint(self) -> str:
        """Of all that prompts depend on besides the source."""
        everything = [self._fill("\0"), list(self.shots), self.spare]
        return hashlib.sha256(json.dumps(everything).encode()).hexdigest()

    def _shots(self, source: str) -> list[tuple[str, str]]:
        shots = [shot for shot in self.shots if shot[0] != source]
        if len(shots) < len(self.shots) and self.spare is not None:
            shots.append(self.spare)
        return shots

    def _fill(self, source: str) -> str:
        return self.template.fill({**self.values, "source": source})


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
