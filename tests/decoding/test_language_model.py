"""Prompts, the cleaning of answers, log-probabilities and their places, and language models of transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from seq2seq_distill.data.languages import language_name
from seq2seq_distill.data.tokenization.tokenizers import tokenizer_of
from seq2seq_distill.decoding.generation import GenerationSettings, causal_generation_config
from seq2seq_distill.decoding.language_model.answers import Answer, TokenScores, align, clean
from seq2seq_distill.decoding.language_model.causal import CausalLanguageModel
from seq2seq_distill.decoding.language_model.prompts import Prompts, Template, load_template
from seq2seq_distill.decoding.language_model.responses import InvalidResponse, parse_response, request_body
from seq2seq_distill.decoding.language_model.token_bytes import spellings
from seq2seq_distill.models.loading import load_causal
from seq2seq_distill.utils.errors import ConfigError
from tests.tiny_language_model import language_model_tokenizer, save_language_model
from tests.tiny_tokenizers import SOURCES, t5_tokenizer

VALUES = {"src_language": "English", "tgt_language": "German"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language_model(tmp_path_factory.mktemp("language_model"))


class TestPrompts:
    @pytest.mark.parametrize(
        ("code", "name"),
        [
            *(("de", "German"), ("deu_Latn", "German"), ("__de__", "German"), (">>deu<<", "German")),
            *(("en_XX", "English"), ("pt-BR", "Brazilian Portuguese"), ("zho_Hant", "Traditional Chinese")),
            *(("tlh", "Klingon"), ("Old Elvish", "Old Elvish")),
        ],
    )
    def test_languages_have_names(self, code: str, name: str) -> None:
        assert language_name(code) == name

    @pytest.mark.parametrize("task", ["translation", "summarization"])
    @pytest.mark.parametrize("api", ["chat", "completions"])
    def test_built_in_templates(self, task: str, api: Any) -> None:
        template = load_template(None, task, api)
        plain, styled = (template.fill({**VALUES, **style, "source": "{style} x"}) for style in ({}, {"style": "dry"}))
        assert "{style} x" in plain and "Style:" not in plain and "Style: dry\n" in styled
        assert ("German" in plain) == (task == "translation")
        assert plain.endswith("{style} x") == (api == "chat")

    def test_a_template_of_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "prompt.txt"
        path.write_text('{"to": "{tgt_language}"}\n\n{source} =\n\n', "utf-8")
        template = load_template(str(path), "translation", "completions")
        assert template.fill({**VALUES, "source": "a"}) == '{"to": "German"}\n\na ='
        path.write_bytes(b"\xff{source}")
        with pytest.raises(ConfigError, match="is not UTF-8"):
            load_template(str(path), "translation", "chat")

    def test_a_source_does_not_see_its_own_target(self) -> None:
        prompts = Prompts(Template("{source} ->", ""), {}, [("a", "A"), ("b", "B")], ("c", "C"))
        assert prompts.text("x") == "a -> A\n\nb -> B\n\nx ->"
        assert prompts.text("a") == "b -> B\n\nc -> C\n\na ->"
        assert [message["content"] for message in prompts.messages("b")] == ["a ->", "A", "c ->", "C", "b ->"]
        assert prompts.fingerprint != Prompts(prompts.template, {}, prompts.shots, ("c", "D")).fingerprint

    def test_a_completion_of_one_line_ends_with_its_line(self) -> None:
        prompts = Prompts(Template("{source} ->", ""), {})
        assert request_body(prompts, "completions", "a\n", {})["stop"] == ["\n"]
        assert "stop" not in request_body(prompts, "completions", "a\nb", {})
        assert request_body(prompts, "completions", "a", {"stop": ["."]})["stop"] == ["."]


CLEANED = [
    ("<think>\nLet me see.\n</think>\n\nHallo", "hello", "Hallo", ["reasoning"]),
    ("I think so.</think>Hallo", "hello", "Hallo", ["reasoning"]),
    ("<think>I cannot stop", "hello", "", ["reasoning", "empty"]),
    ("Das Tag <think> bleibt</think> da", "the <think> tag</think>", "Das Tag <think> bleibt</think> da", []),
    ("Here is the translation:\nHallo", "hello", "Hallo", ["opening"]),
    ("以下是翻译：你好", "hello", "你好", ["opening"]),
    ("Certainly! German translation: Hallo", "hello", "Hallo", ["opening"]),
    ("Version 2.0: alles neu", "version 2.0 - all new", "Version 2.0: alles neu", []),
    ("Here's what he said: no", "Voici ce qu'il a dit – non", "Here's what he said: no", []),
    ("Die Übersetzung der Bibel: ein Buch", "the translation of the Bible", "Die Übersetzung der Bibel: ein Buch", []),
    ("Sure, here's the German text: Hallo", "hello", "Hallo", ["opening"]),
    ("**Translation:** Hallo", "hello", "Hallo", ["opening"]),
    ("Übersetzung: Hallo", "hello", "Hallo", ["opening"]),
    ("译文：你好", "hello", "你好", ["opening"]),
    ("Übersetzung: Hallo", "translation: hello", "Übersetzung: Hallo", []),
    ("Sein Motto: Hallo", "his motto is hello", "Sein Motto: Hallo", []),
    ("Sure enough, he came", "tatsächlich kam er", "Sure enough, he came", []),
    ("```text\nHallo\n```", "hello", "Hallo", ["fence"]),
    ("```\nHallo\n```\nI kept it short.", "hello", "Hallo", ["fence"]),
    ('"Hallo"', "hello", "Hallo", ["quotes"]),
    ("„Wie geht’s?“", "how are you?", "Wie geht’s?", ["quotes"]),
    ("'It's me'", "ich bin es", "It's me", ["quotes"]),
    ('"Hallo"', '"hello"', '"Hallo"', []),
    ('"A" und "B"', "A and B", '"A" und "B"', []),
    ("'A' und 'B'", "A and B", "'A' und 'B'", []),
    ("Hallo\n\nNote: informal.", "hello", "Hallo", ["more_lines"]),
    ("Hallo\nWelt", "hello\nworld", "Hallo\nWelt", []),
    ("  Hallo \n", "hello", "Hallo", []),
    ("Ha\ud83dllo", "hello", "Ha\ufffdllo", ["invalid_characters"]),
    ("", "hello", "", ["empty"]),
    (
        '<think></think>Here is the translation:\n\n```\n"Hallo"\n```',
        "hello",
        "Hallo",
        "reasoning opening fence quotes",
    ),
]


class TestCleaning:
    @pytest.mark.parametrize(("answer", "source", "target", "found"), CLEANED)
    def test_what_is_around_a_target_is_taken_off(
        self, answer: str, source: str, target: str, found: list[str] | str
    ) -> None:
        cleaned, names = clean(Answer(answer, False), source, one_line=True)
        assert (cleaned.text, names) == (target, found.split() if isinstance(found, str) else found)

    def test_lines_of_a_summary_stay(self) -> None:
        assert clean(Answer("- a\n- b", False), "a text", one_line=False) == (Answer("- a\n- b", False), [])

    def test_a_whole_line_of_an_answer_that_ran_on_was_not_stopped(self) -> None:
        cleaned, _ = clean(Answer("Hallo\nEnglish: and on and", True), "hello", one_line=True)
        assert cleaned == Answer("Hallo", False)
        assert clean(Answer("Hal", True), "hello", one_line=True)[0].at_limit

    @pytest.mark.parametrize(
        ("tokens", "target", "kept"),
        [
            (["Ha", "llo"], "Hallo", [(0, 2), (1, 5), ("end", 6)]),
            ([" Ha", "llo", " \n"], "Hallo", [(0, 2), (1, 5), ("end", 6)]),
            (["<think>", "x", "</think>", "\n\nHal", "lo"], "Hallo", [(3, 3), (4, 5), ("end", 6)]),
            # After what follows the target, the end of sentence says nothing of the target.
            (['"', "Ha", "llo", '"'], "Hallo", [(1, 2), (2, 5)]),
            (['"', "Ha", 'llo"'], "Hallo", None),
            (['"Ha', "llo", '"'], "Hallo", None),
            (["Gr", "ö", "ße"], "Größe", [(0, 2), (1, 4), (2, 7), ("end", 8)]),
        ],
    )
    def test_log_probabilities_stay_those_of_the_target(
        self, tokens: list[str], target: str, kept: list[tuple[Any, int]] | None
    ) -> None:
        ends = [len("".join(tokens[: i + 1]).encode()) for i in range(len(tokens))]
        values = (*(-float(i) for i in range(len(tokens))), -9.0)
        scores = TokenScores(values, (*ends, ends[-1] + 1))
        cleaned, _ = clean(Answer("".join(tokens), False, scores), "hello", one_line=True)
        expected = kept and TokenScores(
            *zip(*((-9.0 if which == "end" else -float(which), end) for which, end in kept), strict=True)
        )
        assert (cleaned.text, cleaned.scores) == (target, expected)


class TestAlignment:
    def test_tokens_may_end_inside_characters(self) -> None:
        tokens = [b"Gr", b"\xc3", b"\xb6", b"\xc3\x9fe", b"<|end|>"]
        values = [-1.0, -2.0, -3.0, -4.0, -5.0]
        assert align(tokens, values, "Größe", ended=True) == TokenScores(tuple(values), (2, 3, 4, 7, 8))
        assert align(tokens, values, "Größe", ended=False) is None
        assert align(tokens[:-1], values[:-1], "Größe", ended=True) == TokenScores(tuple(values[:-1]), (2, 3, 4, 7))

    def test_what_the_server_keeps_apart_is_left_out(self) -> None:
        assert align([b"<think>", b"so", b"</think>", b" Hallo"], [-1, -2, -3, -4], "Hallo", ended=True) == (
            TokenScores((-4,), (5,))
        )
        assert align([b"Hello"], [-1.0], "Hallo", ended=True) is None
        assert align([b"Hallo", b""], [-1.0, 1e-7], "Hallo", ended=True) == TokenScores((-1.0, 0.0), (5, 6))
        assert align([b"Ha", b"", b"llo"], [-1.0, -2.0, -3.0], "Hallo", ended=False) == TokenScores((-1, -3), (2, 5))
        assert align([b"Hallo"], [float("-inf")], "Hallo", ended=True) is None
        assert align([], [], "", ended=True) is None

    @pytest.mark.parametrize("name", ["byte-level", "sentencepiece"])
    def test_the_bytes_of_tokens(self, name: str, tmp_path: Path) -> None:
        tokenizer = language_model_tokenizer() if name == "byte-level" else t5_tokenizer(tmp_path)
        text = "die grüne wiese läuft"
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        ways = [b"".join(tokens).strip() for tokens in spellings(tokenizer, [*ids, tokenizer.eos_token_id])]
        assert text.encode() in ways


class TestResponses:
    def test_choices_come_in_any_order_and_without_counts(self) -> None:
        choices = [{"index": i, "message": {"content": str(i)}, "finish_reason": "stop"} for i in (2, 0, 1)]
        response = parse_response({"choices": choices}, "chat")
        assert [answer.text for answer in response.answers] == ["0", "1", "2"]
        assert (response.prompt_tokens, response.fingerprint) == (0, None)

    def test_an_answer_without_text_is_empty(self) -> None:
        message = {"content": None, "reasoning_content": "hm"}
        (answer,) = parse_response({"choices": [{"message": message, "finish_reason": "length"}]}, "chat").answers
        assert answer == Answer("", True)

    @pytest.mark.parametrize(
        "body", [[], None, {}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": {"content": 3}}]}]
    )
    def test_anything_else_is_no_response(self, body: Any) -> None:
        with pytest.raises(InvalidResponse):
            parse_response(body, "chat")

    def test_offsets_of_parts_of_characters_are_unknown(self) -> None:
        choice = {"text": "ü", "finish_reason": "stop"}
        tokens = {"tokens": ["\ufffd", "\ufffd"], "token_logprobs": [-1.0, -1.0], "text_offset": [0, 0]}
        response = parse_response({"choices": [choice | {"logprobs": tokens}]}, "completions")
        assert response.answers == [Answer("ü", False, None, -1.0)] and response.has_log_probabilities

    @pytest.mark.parametrize("api", ["chat", "completions"])
    def test_llama_cpp_has_one_form_of_log_probabilities(self, api: Any) -> None:
        content = [{"token": "Hal", "bytes": None, "logprob": -1.0}, {"token": "lo", "bytes": None, "logprob": -3.0}]
        choice = {"message": {"content": "Hallo"}, "text": "Hallo", "logprobs": {"content": content}}
        (answer,) = parse_response({"choices": [choice]}, api).answers
        assert answer == Answer("Hallo", False, TokenScores((-1.0, -3.0), (3, 5)), -2.0)


class TestCausalLanguageModel:
    def model(self, folder: Path, api: Any = "chat", limit: int = 24, **options: Any) -> CausalLanguageModel:
        model = load_causal(folder, torch.float32, field="model")
        prompts = Prompts(load_template(None, "translation", api), VALUES)
        settings = GenerationSettings(max_length=limit, options=options, group="")
        config = causal_generation_config(model, settings)
        return CausalLanguageModel(model, tokenizer_of(folder, "model"), prompts, api, config, max_tokens=400)

    @pytest.mark.parametrize(
        ("model_type", "api"), [("llama", "chat"), ("llama", "completions"), ("gpt2", "completions")]
    )
    def test_answers_and_scores_are_those_of_plain_forward_passes(
        self, folder: Path, model_type: str, api: str, tmp_path: Path
    ) -> None:
        """Greedy search without batches, padding or cache."""
        if model_type != "llama":
            folder = save_language_model(tmp_path, model_type=model_type)
        causal = self.model(folder, api)
        tokenizer, ended, scored = causal.tokenizer, 0, 0
        for source, (answer,) in zip(SOURCES, causal.answers(SOURCES), strict=True):
            prompt, values = causal.encode(source), []
            ids = list(prompt)
            while len(values) < 24 and (not values or not causal._is_end(ids[-1], api == "completions")):
                with torch.no_grad():
                    logits = causal.model(input_ids=torch.tensor([ids])).logits[0, -1]
                ids.append(int(logits.argmax()))
                values.append(float(logits.log_softmax(-1)[ids[-1]]))
            assert answer.text == tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True).strip()
            ended += not answer.at_limit
            assert answer.at_limit == (len(values) == 24 and not causal._is_end(ids[-1], api == "completions"))
            assert answer.mean_log_probability == pytest.approx(sum(values) / len(values), abs=1e-4)
            if answer.scores:
                scored += 1
                assert answer.scores.ends[-1] == len(answer.text.encode()) + (not answer.at_limit)
                special = {*tokenizer.all_special_ids} - {tokenizer.eos_token_id}
                listed = [
                    value for value, number in zip(values, ids[len(prompt) :], strict=True) if number not in special
                ]
                assert answer.scores.log_probabilities == pytest.approx(listed[-len(answer.scores.ends) :], abs=1e-4)
        assert scored >= 4 and (model_type == "gpt2" or 0 < ended < len(SOURCES))

    def test_samples(self, folder: Path) -> None:
        causal = self.model(folder, do_sample=True, top_k=0)
        torch.manual_seed(0)
        found = causal.answers(SOURCES, 3)
        torch.manual_seed(0)
        assert causal.answers(SOURCES, 3) == found
        assert all(len({answer.text for answer in row}) == 3 for row in found)

    def test_a_prompt_that_is_too_long_has_no_answer(self, tmp_path: Path) -> None:
        causal = self.model(save_language_model(tmp_path, positions=128))
        first, second = causal.answers([SOURCES[0], " ".join(SOURCES)])
        assert len(first) == 1 and not second

    def test_chat_needs_a_template(self, tmp_path: Path) -> None:
        folder = save_language_model(tmp_path, chat=False)
        with pytest.raises(ConfigError, match="`api` chat needs a chat template.*set `api` completions"):
            self.model(folder)
        assert self.model(folder, "completions").answers(SOURCES[:1])
