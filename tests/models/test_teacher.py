"""The teacher: frozen, in eval mode, outside the module tree."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from seq2seq_distill.models.architectures import decoder_layers
from seq2seq_distill.models.forward import decode, decoder_inputs, encode, head
from seq2seq_distill.models.hooks import Feature, capture_features
from seq2seq_distill.models.teacher import Teacher, load_teacher
from seq2seq_distill.utils.errors import ModelError
from tests.tiny_models import tiny_batch, tiny_model


class Owner(nn.Module):
    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.teacher = teacher


def test_the_teacher_is_in_no_module_tree() -> None:
    """H29: the teacher's weights were saved in every checkpoint."""
    owner = Owner(Teacher(tiny_model("bart")))
    assert set(owner.state_dict()) == {"linear.weight", "linear.bias"}
    assert [type(module) for module in owner.modules()] == [Owner, nn.Linear]


def test_the_teacher_stays_in_eval_mode() -> None:
    """H16: a `train()` call switched a registered teacher's dropout on."""
    teacher = Teacher(tiny_model("bart").train())
    batch = tiny_batch(teacher.model)
    expected = teacher.encode(batch)
    Owner(teacher).train()
    assert not teacher.model.training
    teacher.model.train()
    assert torch.equal(teacher.encode(batch), expected)
    teacher.model.get_decoder().train()
    inputs = decoder_inputs(teacher.model, batch["labels"])
    assert torch.equal(teacher.decode(batch, expected, inputs), decode(tiny_model("bart"), batch, expected, inputs))


def test_the_teacher_gives_no_gradient() -> None:
    """H6: the KL's target had a gradient of its own."""
    teacher = Teacher(tiny_model("bart"))
    batch = tiny_batch(teacher.model)
    state = encode(tiny_model("bart"), batch)  # a shared encoder in training
    assert state.requires_grad
    inputs = decoder_inputs(teacher.model, batch["labels"])
    hidden = teacher.decode(batch, state, inputs)
    assert not any(tensor.requires_grad for tensor in (hidden, teacher.head(hidden), *teacher.model.parameters()))
    assert torch.equal(teacher.head(hidden), head(teacher.model, hidden))


def test_a_deep_copy_is_the_teacher_itself() -> None:
    owner = Owner(Teacher(tiny_model("bart")))
    copied = copy.deepcopy(owner)
    assert copied.teacher is owner.teacher and copied.linear is not owner.linear
    assert owner.teacher.to("cpu") is owner.teacher


def test_features_of_a_pass_are_read_afterwards_and_only_those_wanted() -> None:
    teacher = Teacher(tiny_model("bart", decoder_layers=3))
    wanted = [Feature("decoder", "hidden", layer) for layer in (2, 0)]
    for target in (5, 4):
        batch = tiny_batch(teacher.model, target=target)
        with capture_features(teacher.model, wanted) as features:
            teacher.decode(batch, teacher.encode(batch), decoder_inputs(teacher.model, batch["labels"]))
        assert features.keys() == set(wanted)
        assert features[wanted[0]].shape == (3, target, 16)
    with pytest.raises(IndexError), capture_features(teacher.model, [Feature("decoder", "hidden", 3)]):
        pass


def test_hooks_are_removed_when_the_pass_fails() -> None:
    model = tiny_model("bart")
    with pytest.raises(ZeroDivisionError), capture_features(model, [Feature("decoder", "hidden", 0)]):
        raise ZeroDivisionError
    assert not decoder_layers(model)[0]._forward_hooks


def test_load_teacher_reads_a_folder_and_names_its_flag(tmp_path: Path) -> None:
    model = tiny_model("marian")
    model.save_pretrained(tmp_path)
    batch = tiny_batch(model)
    with torch.no_grad():
        assert torch.equal(load_teacher(tmp_path).encode(batch), encode(model, batch))
    assert load_teacher(tmp_path, torch.bfloat16).model.dtype == torch.bfloat16
    with pytest.raises(ModelError, match=r"^`teacher` ./none: no such folder"):
        load_teacher("./none")
