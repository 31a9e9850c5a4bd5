"""Losses of what an adaptor reads of a model's outputs: those of the modules."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from seq2seq_distill.config import FeatureLossConfig, LossConfig, RunConfig, ScheduleConfig
from seq2seq_distill.models import forward
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.modules.adaptor import ModelOutputs, distillation_loss
from seq2seq_distill.modules.distillers import SummarizationDistiller
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.errors import ConfigError, ModelError
from tests.tiny_models import tiny_batch, tiny_model
from tests.tiny_tokenizers import plain_tokenizer

MATCHES = [
    FeatureLossConfig(side="encoder", student=0, teacher=-1, loss="cosine", weight=0.3),
    FeatureLossConfig(layers="last", loss="mmd"),
    FeatureLossConfig(feature="cross_attention", student=-1, teacher=1, loss="ce", weight=0.5),
    FeatureLossConfig(side="encoder", feature="self_attention", student=0, teacher=0),
]


def read(model: PreTrainedModel, batch: dict[str, Tensor]) -> ModelOutputs:
    """An adaptor for BART's own forward pass."""
    inputs = forward.decoder_inputs(model, batch["labels"])
    fields = {name: batch[name] for name in ("input_ids", "attention_mask")}
    found: Any = model(**fields, decoder_input_ids=inputs, output_hidden_states=True, output_attentions=True)
    return ModelOutputs(
        found.logits,
        found.encoder_hidden_states[1:],
        found.decoder_hidden_states[1:],
        found.encoder_attentions,
        found.decoder_attentions,
        found.cross_attentions,
    )


@pytest.mark.parametrize("divergence", ["forward_kl", "jsd", {"forward_kl": 1.0, "reverse_kl": 0.5}])
def test_the_loss_and_its_gradient_are_those_of_the_module(divergence: Any) -> None:
    loss = LossConfig(alpha_hid=2.0, divergence=divergence, label_smoothing=0.1, normalize_hidden=True)
    student, teacher = tiny_model("bart", encoder_layers=1, decoder_layers=1, seed=1), tiny_model("bart")
    config = RunConfig(task="summarization", loss=loss, matches=MATCHES)
    module = SummarizationDistiller(student, Teacher(teacher), plain_tokenizer(), config, 4).eval()
    batch = {**tiny_batch(student), "row": torch.arange(3)}
    expected = module.compute_loss(batch)
    expected.loss.backward()
    gradients = {name: parameter.grad for name, parameter in student.named_parameters()}
    student.zero_grad(set_to_none=True)
    found = distillation_loss(read(student, batch), read(teacher, batch), batch, loss, MATCHES)
    found.loss.backward()
    values = expected.named()
    values.pop("teacher_entropy")
    assert {n: v.item() for n, v in found.named().items()} == pytest.approx({n: v.item() for n, v in values.items()})
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6)


OTHER = ModelOutputs(torch.randn(1, 3, 7), encoder_hidden=[torch.randn(1, 2, 4)], decoder_hidden=[torch.randn(1, 3, 4)])
NARROW = ModelOutputs(torch.randn(1, 3, 7), decoder_hidden=[torch.randn(1, 3, 2)])
BATCH = {"labels": torch.tensor([[1, 2, IGNORE_INDEX]]), "attention_mask": torch.ones(1, 2)}


@pytest.mark.parametrize(
    ("loss", "matches", "message"),
    [
        (LossConfig(on_policy=0.5), [], "on_policy 0.5: sample the targets yourself"),
        (LossConfig(alpha_chunk=9.0), [], "alpha_chunk 9.0: a batch has no chunks"),
        (LossConfig(schedule=ScheduleConfig(temperature="flsw")), [], "schedule of temperature, flsw: .* of the step"),
        (
            LossConfig(),
            [FeatureLossConfig(layers="last", projection="tanh")],
            "entry 0, projection tanh: add a projection layer to the adaptor",
        ),
        (LossConfig(alpha_hid=1.0), [], "alpha_hid compares encoder hidden, which the student's outputs lack"),
        (LossConfig(temperature=-1.0), [], "`loss.temperature` -1.0"),
        (
            LossConfig(),
            [FeatureLossConfig(layers="last")],
            "entry 0 compares decoder hidden, 2 wide in the student and 4 in",
        ),
    ],
)
def test_what_outputs_do_not_have_is_refused(loss: LossConfig, matches: list[FeatureLossConfig], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        distillation_loss(NARROW, OTHER, BATCH, loss, matches)


def test_another_vocabulary_is_refused() -> None:
    with pytest.raises(ConfigError, match="the student has 6 output tokens, the teacher 7: choose models of one"):
        distillation_loss(ModelOutputs(torch.randn(1, 3, 6)), OTHER, BATCH)


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="entry 0, teacher 3: the teacher's decoder has 1 layers, choose -1 to 0"):
        distillation_loss(OTHER, OTHER, BATCH, matches=[FeatureLossConfig(student=0, teacher=3)])


def test_equal_outputs_have_nothing_to_learn_from_each_other() -> None:
    found = distillation_loss(OTHER, OTHER, BATCH, LossConfig(alpha_hid=1.0), [FeatureLossConfig(layers="last")])
    assert found.parts["mlm_loss"] > 0
    assert all(abs(value) < 1e-6 for name, value in found.parts.items() if name != "mlm_loss")
