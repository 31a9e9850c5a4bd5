"""A language model of transformers that answers prompts."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from seq2seq_distill.data.length_batches import map_by_length
from seq2seq_distill.decoding.generation import decoding
from seq2seq_distill.decoding.language_model.answers import Answer, TokenScores, align
from seq2seq_distill.decoding.language_model.prompts import Api, Prompts
from seq2seq_distill.decoding.language_model.token_bytes import spellings
from seq2seq_distill.decoding.likelihood import LOGITS
from seq2seq_distill.utils.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class CausalLanguageModel:
    """Answers with `generate`, in batches of prompts of like length, the longest first, padded on the left.

    Args:
        model: a causal language model, on its device.
        tokenizer: with a chat template, for chat.
        prompts: make the prompts.
        api: chat, or continuing a text.
        generation: from `causal_generation_config`.
        max_tokens: prompt tokens of a batch, padding counted.
        template_options: further variables of the chat template.

    Raises:
        ConfigError: chat was asked for, and there is no template.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Prompts,
        api: Api,
        generation: GenerationConfig,
        *,
        max_tokens: int,
        template_options: dict[str, Any] | None = None,
    ) -> None:
        if api == "chat" and tokenizer.chat_template is None:
            raise ConfigError("`api` chat needs a chat template, and the `model` has none: set `api` completions")
        self.model, self.tokenizer, self.prompts = model, tokenizer, prompts
        self._api, self._max_tokens, self._template_options = api, max_tokens, template_options or {}
        self.generation = copy.deepcopy(generation)
        ends = self.generation.eos_token_id
        self._ends = set(ends) if isinstance(ends, list) else {ends}
        if tokenizer.eos_token_id is not None and ends is None:
            self._ends = {tokenizer.eos_token_id}
            self.generation.eos_token_id = tokenizer.eos_token_id
        found = (tokenizer.pad_token_id, self.generation.pad_token_id, *self._ends, 0)
        self._pad = int(next(number for number in found if number is not None))
        self.generation.pad_token_id = self._pad
        positions = getattr(model.config, "max_position_embeddings", None)
        self._longest = None if positions is None else int(positions) - int(self.generation.max_new_tokens or 0)

    def encode(self, source: str) -> list[int]:
        """Token ids of the prompt about a source."""
        if self._api == "completions":
            return list(self.tokenizer(self.prompts.text(source))["input_ids"])
        text = self.tokenizer.apply_chat_template(
            self.prompts.messages(source), tokenize=False, add_generation_prompt=True, **self._template_options
        )
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def answers(self, sources: Sequence[str], n: int = 1) -> list[list[Answer]]:
        """Answers to each source, n each, the best first; none for a prompt that is longer than the model reads.

        All have the log-probabilities of their tokens, as the model gives them without temperature and the like, unless
        the tokens do not spell the text.
        """
        prompts = [(self.encode(source), "\n" in source.strip()) for source in sources]
        fitting = [i for i, (ids, _) in enumerate(prompts) if self._longest is None or len(ids) <= self._longest]
        lengths = [len(prompts[i][0]) for i in fitting]
        with decoding(self.model):
            answered = map_by_length(
                lambda rows: self._generate(rows, n),
                [prompts[i] for i in fitting],
                lengths,
                max_tokens=self._max_tokens,
            )
        found: list[list[Answer]] = [[] for _ in sources]
        for i, row in zip(fitting, answered, strict=True):
            found[i] = row
        return found

    def _generate(self, prompts: list[tuple[list[int], bool]], n: int) -> list[list[Answer]]:
        """Answers to a batch of prompts, each with whether its source has several lines."""
        width = max(len(ids) for ids, _ in prompts)
        inputs = torch.tensor([[self._pad] * (width - len(ids)) + ids for ids, _ in prompts])
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids, _ in prompts])
        inputs, mask = inputs.to(self.model.device), mask.to(self.model.device)
        config = copy.deepcopy(self.generation)
        config.num_return_sequences = n
        one_line = [self._api == "completions" and not has_lines for _, has_lines in prompts for _ in range(n)]
        if all(one_line):
            config.stop_strings = ["\n"]
        own, self.model.generation_config = self.model.generation_config, config  # else it fills what is None here
        try:
            output = self.model.generate(  # type: ignore[operator]
                input_ids=inputs, attention_mask=mask, generation_config=config, tokenizer=self.tokenizer
            )
        finally:
            self.model.generation_config = own
        rows = [self._until_end(*row) for row in zip(output[:, width:].tolist(), one_line, strict=True)]
        scores = self._log_probabilities(inputs.repeat_interleave(n, 0), mask.repeat_interleave(n, 0), rows)
        found = [self._answer(*row) for row in zip(rows, scores, one_line, strict=True)]
        return [found[start : start + n] for start in range(0, len(found), n)]

    def _until_end(self, ids: list[int], one_line: bool) -> list[int]:
        """Up to the token that ends the answer, which is kept."""
        return ids[: next((i + 1 for i, number in enumerate(ids) if self._is_end(number, one_line)), len(ids))]

    def _is_end(self, number: int, one_line: bool) -> bool:
        return number in self._ends or (one_line and "\n" in str(self.tokenizer.decode([number])))

    def _log_probabilities(self, inputs: Tensor, mask: Tensor, rows: list[list[int]]) -> list[list[float]]:
        """Of the tokens of each row after its prompt, by one forward pass; `generate` would keep the logits of every
        step for it."""
        longest = max(map(len, rows))
        padded = [row + [self._pad] * (longest - len(row)) for row in rows]
        outputs = torch.tensor(padded, device=inputs.device, dtype=inputs.dtype)
        real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=inputs.device)
        ids, mask = torch.cat([inputs, outputs], 1), torch.cat([mask, real], 1)
        options: dict[str, Any] = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0), "logits_to_keep": longest + 1}
        known = inspect.signature(self.model.forward).parameters
        options = {name: value for name, value in options.items() if name in known}
        at_once = max(1, LOGITS // (self.model.config.get_text_config().vocab_size * (longest + 1)))
        found = []
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            few = {name: value[part] if isinstance(value, Tensor) else value for name, value in options.items()}
            logits = self.model(input_ids=ids[part], attention_mask=mask[part], use_cache=False, **few).logits
            logits = logits[:, -longest - 1 : -1].float().log_softmax(-1)
            found += logits.gather(-1, outputs[part, :, None])[..., 0].tolist()
        return [values[: len(row)] for values, row in zip(found, rows, strict=True)]

    def _answer(self, ids: list[int], log_probabilities: list[float], one_line: bool) -> Answer:
        ended = bool(ids) and self._is_end(ids[-1], one_line)
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()
        scores: TokenScores | None = None
        for tokens in spellings(self.tokenizer, ids):
            if ended and not tokens[-1].strip():  # the end of the line is that of the answer
                tokens[-1] = b""
            scores = scores or align(tokens, log_probabilities, text, ended=ended)
        at_limit = not ended and len(ids) >= int(self.generation.max_new_tokens or 0)
        return Answer(text, at_limit, scores, fmean(log_probabilities))
