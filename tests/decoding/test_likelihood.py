"""Scores of given targets, by a loop in float64."""

import pytest
import torch

from seq2seq_distill.data.collator import Collator
from seq2seq_distill.decoding.decoder import TransformersDecoder
from seq2seq_distill.decoding.generation import GenerationSettings, generation_config
from seq2seq_distill.decoding.likelihood import mean_log_probabilities
from seq2seq_distill.decoding.loading import LoadedModel
from seq2seq_distill.models import architectures, forward
from tests.tiny_models import tiny_model
from tests.tiny_tokenizers import plain_tokenizer

SOURCE_IDS = [[5, 9, 11, 2], [7, 2], [12, 13, 14, 15, 16, 17, 2]]
TARGET_IDS = [[21, 22, 2], [30, 31, 32, 33, 34, 2], [40, 2]]


@pytest.mark.parametrize("model_type", ["bart", "t5", "mbart", "fsmt", "led"])
@pytest.mark.parametrize("max_tokens", [8, 1000])
def test_targets_score_as_one_by_one_in_float64(model_type, max_tokens):
    model = tiny_model(model_type)
    pad = 0 if model_type == "t5" else 1
    collate = Collator(pad, architectures.extra_inputs(model.config))
    found = mean_log_probabilities(model, collate, SOURCE_IDS, TARGET_IDS, max_tokens)
    double = model.double()
    for source, target, score in zip(SOURCE_IDS, TARGET_IDS, found, strict=True):
        batch = collate([{"input_ids": source, "labels": target, "row": 0}])
        with torch.no_grad():
            state = forward.encode(double, batch)
            states = forward.decode(double, batch, state, forward.decoder_inputs(double, batch["labels"]))
            logits = forward.head(double, states)[0].log_softmax(-1)
        expected = sum(float(logits[i, token]) for i, token in enumerate(target)) / len(target)
        assert score == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("penalty", [1.0, 0.5])
def test_outputs_score_as_beam_search_says(beams, penalty):
    """transformers itself gives scores of beams; of a greedy output it is that of its tokens."""
    model = tiny_model("bart")
    config = generation_config(model, GenerationSettings(beams=beams, max_length=9, length_penalty=penalty))
    config.forced_eos_token_id = None  # an end that is forced counts as sure there, and as what it is here
    model.generation_config = config
    decoder = TransformersDecoder(LoadedModel(model, plain_tokenizer(), "", None, config))
    found = decoder.decode(SOURCE_IDS, n_best=beams)
    for source, hypotheses in zip(SOURCE_IDS, found, strict=True):
        batch = torch.tensor([source])
        config.num_return_sequences, config.return_dict_in_generate, config.output_scores = beams, True, True
        output = model.generate(batch, generation_config=config)
        if beams > 1:
            expected = output.sequences_scores.tolist()
        else:
            steps = model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)
            expected = [float(steps.mean())]
            assert hypotheses[0].log_probabilities == pytest.approx(steps[0].tolist(), abs=1e-4)
        assert [hypothesis.score for hypothesis in hypotheses] == pytest.approx(expected, abs=1e-4)
