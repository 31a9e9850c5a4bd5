"""Sharded models, on a single process: each family computes what it did, and gives its weights back whole.

`test_two_processes.py` has runs on two.
"""

import copy
from collections.abc import Iterator, Mapping

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from seq2seq_distill.config import LossConfig, RunConfig
from seq2seq_distill.models import architectures
from seq2seq_distill.models.sharding import (
    gather,
    is_sharded,
    keep_unsharded,
    precision_policy,
    shard,
    whole_state,
    zero_row,
)
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.modules.distillers import SummarizationDistiller
from seq2seq_distill.shrink.student import create_student
from tests.tiny_models import tiny_batch, tiny_model
from tests.tiny_tokenizers import plain_tokenizer

WHOLE = precision_policy("32-true")


class Distiller(SummarizationDistiller):
    """A step without a Trainer."""

    def go(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.compute_loss(batch).loss


@pytest.fixture(scope="module")
def mesh() -> Iterator[DeviceMesh]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")
@pytest.mark.parametrize("model_type", architectures.ARCHITECTURES)
def test_a_sharded_step_is_the_whole_one(mesh: DeviceMesh, model_type: str) -> None:
    teacher = tiny_model(model_type)
    config = RunConfig(task="summarization", loss=LossConfig(alpha_hid=1.0))
    batch = {**tiny_batch(teacher), "row": torch.arange(3)}
    plain, sharded = (
        Distiller(create_student(teacher, 1, 1), Teacher(copy.deepcopy(teacher)), plain_tokenizer(), config, 4).eval()
        for _ in range(2)
    )
    shard(sharded, sharded.student, mesh, WHOLE, forward=["go"])
    sharded.teacher.shard(mesh, WHOLE)
    assert is_sharded(sharded) and not is_sharded(plain)
    assert all(isinstance(p, DTensor) for p in (*sharded.parameters(), *sharded.teacher.running.parameters()))
    for _ in range(2):
        losses = [module.go(batch) for module in (plain, sharded)]
        torch.testing.assert_close(losses[1], losses[0])
        for loss in losses:
            loss.backward()
    pad = plain.student.config.pad_token_id if architectures.zero_pad_row(plain.student) is not None else None
    gradients = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
    ours = {name: gather(p.grad) for name, p in sharded.named_parameters() if p.grad is not None}
    assert ours.keys() == gradients.keys()
    for name, gradient in gradients.items():
        if pad is not None and len(gradient) == plain.student.config.vocab_size and gradient.dim() == 2:
            zero_row(ours[name], pad)  # the module sees to it where it shards itself
        torch.testing.assert_close(ours[name], gradient, msg=name)


def test_weights_come_back_whole_and_tied(mesh: DeviceMesh) -> None:
    model = tiny_model("bart")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shard(model, model, mesh, WHOLE, forward=())
    batch = tiny_batch(model)
    model(**batch).logits.sum().backward()
    state = whole_state(model)
    assert state.keys() == before.keys()
    assert all(torch.equal(value, before[name]) and not isinstance(value, DTensor) for name, value in state.items())
    assert state["lm_head.weight"] is state["model.shared.weight"]
    assert set(whole_state(model, keep=False)) == {"final_logits_bias"}  # a buffer, never sharded


def test_layers_are_kept_only_when_told_to(mesh: DeviceMesh) -> None:
    model = tiny_model("bart").eval()
    shard(model, model, mesh, WHOLE, forward=())
    layer, batch = architectures.decoder_layers(model)[0], tiny_batch(model)

    def whole_after_a_pass() -> bool:
        with torch.no_grad():
            model(**batch)
        return not any(isinstance(p, DTensor) for p in layer.parameters())

    assert not whole_after_a_pass()
    keep_unsharded(model, True)
    assert whole_after_a_pass()
    keep_unsharded(model, False)
    assert all(isinstance(p, DTensor) for p in layer.parameters())
    assert not whole_after_a_pass()


def test_a_teacher_forgets_its_passes(mesh: DeviceMesh) -> None:
    """Without a backward pass FSDP keeps a list of all that was run, which older versions of torch cannot clear."""
    teacher = Teacher(tiny_model("bart"))
    batch = tiny_batch(teacher.model)
    expected = teacher.encode(batch)
    teacher.shard(mesh, WHOLE)
    for _ in range(3):
        assert torch.equal(teacher.run_gathered(lambda: teacher.encode(batch)), expected)
    if hasattr(teacher.running, "reset_iter_state"):
        assert not teacher.running._get_fsdp_state()._comm_ctx.post_forward_order  # type: ignore[operator]
    teacher.drop_shards()
    assert teacher.running is teacher.model and torch.equal(teacher.encode(batch), expected)


def test_zero_row(mesh: DeviceMesh) -> None:
    matrix = torch.ones(3, 2)
    spread = distribute_tensor(torch.ones(3, 2), mesh, [Shard(0)])
    for each in (matrix, spread):
        zero_row(each, 1)
        assert gather(each).tolist() == [[1, 1], [0, 0], [1, 1]]
