"""Log-probabilities of the tokens of targets, against plain forward passes."""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer
from seq2seq_distill.decoding.generation import GenerationSettings, generation_config
from seq2seq_distill.decoding.loading import LoadedModel
from seq2seq_distill.decoding.token_logprobs import token_logprobs
from seq2seq_distill.models.forward import decoder_inputs
from tests.tiny_runs import save_teacher
from tests.tiny_tokenizers import SOURCES, TARGETS

TEXTS = [*TARGETS[:3], "ein 北 hund"]


def loaded(tmp_path, model_type):
    folder = save_teacher(tmp_path, model_type)
    languages = {"mbart": ("en_XX", "de_DE"), "m2m_100": ("eng_Latn", "deu_Latn")}.get(model_type, ("en", "de"))
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = load_tokenizer(folder, *languages)
    return LoadedModel(model, tokenizer, "", None, generation_config(model, GenerationSettings(beams=1)))


@pytest.mark.parametrize("model_type", ["marian", "mbart", "m2m_100", "bart"])
@pytest.mark.parametrize("max_tokens", [40, 1000])
def test_an_encoder_decoder_says_what_a_plain_pass_says(tmp_path, model_type, max_tokens):
    teacher = loaded(tmp_path, model_type)
    tokenizer, model = teacher.tokenizer, teacher.torch_model
    sources = teacher.encode(SOURCES[:4])
    found = token_logprobs(teacher, sources, TEXTS, max_tokens=max_tokens)
    for source, text, row in zip(sources, TEXTS, found, strict=True):
        labels = torch.tensor(tokenizer(text_target=[text])["input_ids"])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([source]), decoder_input_ids=decoder_inputs(model, labels)).logits
        expected = logits[0].double().log_softmax(-1).gather(1, labels[0, :, None])[:, 0]
        languages = {tokenizer.convert_tokens_to_ids(code) for code in ("de_DE", "deu_Latn")} - {tokenizer.unk_token_id}
        kept = [index for index, token in enumerate(labels[0].tolist()) if token not in languages]
        assert row.token_logprobs.tolist() == pytest.approx(expected[kept].tolist(), abs=1e-4)
        assert row.token_ends.tolist()[-2:] == [len(text.encode()), len(text.encode()) + 1]


def test_a_target_that_is_cut_has_no_end(tmp_path):
    teacher = loaded(tmp_path, "marian")
    [row] = token_logprobs(teacher, teacher.encode(SOURCES[:1]), TARGETS[:1], limit=5)
    assert len(row.token_ends) == len(row.token_logprobs) == 4
    assert row.token_ends[-1] < len(TARGETS[0].encode())


def test_a_text_with_special_tokens_has_none(tmp_path):
    teacher = loaded(tmp_path, "bart")
    assert token_logprobs(teacher, teacher.encode(SOURCES[:1]), ["ein </s> hund"]) == [None]
