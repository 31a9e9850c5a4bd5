"""Narrower students of every family: the identity, the order of repair, what is saved, what is refused."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from seq2seq_distill.models import architectures
from seq2seq_distill.models.forward import decode, decoder_inputs, encode, head
from seq2seq_distill.shrink import blocks
from seq2seq_distill.shrink.calibration import Calibration
from seq2seq_distill.shrink.student import create_student, describe_cut
from seq2seq_distill.shrink.width import Widths, _narrow_output, narrow, resolve_widths
from seq2seq_distill.utils.errors import ModelError
from tests.tiny_models import families, tiny_batch, tiny_model

T5_KIN = ["t5", "mt5", "umt5", "longt5"]
GATED = {"feed_forward_proj": "gated-gelu"}
HALF = {"encoder_ffn_dim": 0.5, "decoder_ffn_dim": 0.5}


def data(model: PreTrainedModel, batches: int = 3) -> list[dict[str, Tensor]]:
    return [tiny_batch(model, batch=8, source=12, target=9, seed=seed) for seed in range(batches)]


@torch.no_grad()
def logits(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> Tensor:
    return head(model, decode(model, batch, encode(model, batch), decoder_inputs(model, batch["labels"])))


def parameters(model: PreTrainedModel) -> int:
    return sum(weight.numel() for weight in model.parameters())


@families()
def test_all_units_are_the_identity(model_type: str) -> None:
    teacher = tiny_model(model_type)
    student = create_student(teacher, 2, 2, encoder_ffn_dim=32, decoder_ffn_dim=32, batches=data(teacher))
    assert torch.equal(logits(student, tiny_batch(teacher)), logits(teacher, tiny_batch(teacher)))
    assert not hasattr(student.config, "distilled_widths")


@families()
def test_a_narrower_student_is_smaller_and_loads_anywhere(model_type: str, tmp_path: Path) -> None:
    teacher = tiny_model(model_type, decoder_layers=3)
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}
    student = create_student(teacher, 2, 1, **HALF, batches=data(teacher))
    assert architectures.ffn_dims(student.config) == (16, 16)
    assert student.config.distilled_widths == {"encoder_ffn_dim": [16, 32], "decoder_ffn_dim": [16, 32]}
    assert parameters(student) < parameters(create_student(teacher, 2, 1))
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.state_dict().items())
    student.save_pretrained(tmp_path)
    again, report = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["mismatched_keys"]
    batch = tiny_batch(teacher)
    assert torch.equal(logits(again.eval(), batch), logits(student, batch))
    assert again.config.distilled_widths == student.config.distilled_widths
    source = {name: field for name, field in batch.items() if name != "labels"}
    assert again.generate(**source, max_new_tokens=4).shape[0] == 3
    assert all(weight.dtype == torch.float32 and weight.is_contiguous() for weight in student.parameters())


@families()
@torch.no_grad()
def test_blocks_are_nearer_to_the_teachers_repaired_than_sliced(model_type: str) -> None:
    """On the calibration data, given the inputs that a block gets."""
    teacher = tiny_model(model_type)
    for side, layer in (("encoder", 0), ("decoder", 1)):
        errors = {}
        for repair in (True, False):
            model = copy.deepcopy(teacher)
            calibration, block = Calibration(model, data(model)), blocks.feed_forward(model, side, layer)
            inputs = torch.cat(list(calibration.inputs(side, block.output)))
            expected = block.output(inputs)
            kept = _narrow_output(calibration, block, 16, None, repair)
            errors[repair] = float((block.output(inputs) - expected).square().mean())
            gone = torch.ones(32, dtype=torch.bool).index_fill_(0, kept, False)
            assert gone.sum() == 16 and not block.output.weight[:, gone].any()
        assert 0 < errors[True] < errors[False]


@pytest.mark.parametrize("gated", [False, True])
def test_units_that_go_without_a_trace_change_nothing(gated: bool) -> None:
    """Units with zero columns score zero, so slicing removes just them: gated or not, all maps are cut alike."""
    teacher: Any = tiny_model("t5", **(GATED if gated else {}))
    with torch.no_grad():
        for side in ("encoder", "decoder"):
            for layer in range(2):
                blocks.feed_forward(teacher, side, layer).output.weight[:, 5:21] = 0.0
    assert len(blocks.feed_forward(teacher, "encoder", 0).inputs) == 1 + gated
    student = create_student(teacher, 2, 2, **HALF, batches=data(teacher))
    assert student.config.d_ff == 16
    torch.testing.assert_close(logits(student, tiny_batch(teacher)), logits(teacher, tiny_batch(teacher)))


@pytest.mark.parametrize("model_type", T5_KIN)
def test_heads_that_go_without_a_trace_change_nothing(model_type: str, tmp_path: Path) -> None:
    kind = {"encoder_attention_type": "transient-global"} if model_type == "longt5" else {}
    teacher = tiny_model(model_type, encoder_layers=2, decoder_layers=3, num_heads=4, d_kv=4, **kind)
    with torch.no_grad():
        for side, heads in (("encoder", (0, 2)), ("decoder", (1, 3))):
            for layer in range(2 if side == "encoder" else 3):
                for number, block in enumerate(blocks.attention(teacher, side, layer)):
                    for gone in heads if number == 0 else (layer, 3):  # each attention to the encoder loses others
                        block.output.weight[:, 4 * gone : 4 * gone + 4] = 0.0
    student = create_student(teacher, 2, 2, num_heads=2, batches=data(teacher))
    whole = create_student(teacher, 2, 2)
    assert student.config.num_heads == 2 and student.config.distilled_widths == {"num_heads": [2, 4]}
    torch.testing.assert_close(logits(student, tiny_batch(teacher)), logits(whole, tiny_batch(teacher)))
    student.save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert torch.equal(logits(again, tiny_batch(teacher)), logits(student, tiny_batch(teacher)))


@pytest.mark.parametrize("changes", [{}, GATED], ids=["plain", "gated"])
def test_the_loss_of_a_repaired_t5_is_at_most_that_of_a_sliced_one(changes: dict[str, Any]) -> None:
    """A teacher that has learned something: the loss of a random one says nothing."""
    teacher = tiny_model("t5", d_ff=64, num_heads=4, d_kv=4, tie_word_embeddings=True, **changes)
    batches = data(teacher, 6)
    optimizer = torch.optim.Adam(teacher.parameters(), 0.01)
    for _ in range(15):
        for batch in batches[:3]:
            optimizer.zero_grad()
            teacher(**batch).loss.backward()
            optimizer.step()
    options: dict[str, Any] = {"encoder_ffn_dim": 0.25, "decoder_ffn_dim": 0.25, "num_heads": 2}
    losses = {}
    for repair in (True, False):
        student = create_student(teacher, 2, 2, **options, batches=batches[:3], repair=repair)
        with torch.no_grad():
            losses[repair] = sum(float(student(**batch).loss) for batch in batches[:3])
    assert losses[True] < losses[False]


def test_padding_counts_for_nothing() -> None:
    teacher = tiny_model("bart")
    batch = tiny_batch(teacher, batch=4, source=10, target=8)
    rows = [
        {
            "input_ids": batch["input_ids"][[row]][:, mask := batch["attention_mask"][row].bool()],
            "attention_mask": batch["attention_mask"][[row]][:, mask],
            "labels": batch["labels"][[row]][:, batch["labels"][row] != -100],
        }
        for row in range(4)
    ]
    for side in ("encoder", "decoder"):
        output = blocks.feed_forward(teacher, side, 1).output
        together, alone = (Calibration(teacher, batches).moments(side, output) for batches in ([batch], rows))
        assert together.count == alone.count
        torch.testing.assert_close(together.mean, alone.mean, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(together.second, alone.second, rtol=1e-4, atol=1e-6)


@families()
def test_every_position_without_padding_counts_once(model_type: str) -> None:
    """Whatever a family does to the source: windows that are filled up, global tokens, streams, time first."""
    teacher = tiny_model(model_type)
    batch = tiny_batch(teacher, batch=4, source=10, target=8)
    calibration = Calibration(teacher, [batch])
    streams = 1 + teacher.config.ngram if model_type == "prophetnet" else 1
    expected = int(batch["attention_mask"].sum()), streams * int((batch["labels"] != -100).sum())
    for side, count in zip(("encoder", "decoder"), expected, strict=True):
        assert calibration.moments(side, blocks.feed_forward(teacher, side, 0).output).count == count


def test_narrowing_draws_no_random_numbers_and_gives_the_same_student_again() -> None:
    teacher, before = tiny_model("marian"), torch.random.get_rng_state()
    first, second = (create_student(teacher, 1, 1, **HALF, batches=data(teacher)) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(weight, second.state_dict()[name]) for name, weight in first.state_dict().items())
    assert describe_cut(first.config) == (
        "encoder layers 0, decoder layers 0, encoder_ffn_dim 16 of 32, decoder_ffn_dim 16 of 32"
    )
    assert not hasattr(create_student(first, 1, 1).config, "distilled_widths")  # nothing less than its own teacher


def test_one_stack_alone() -> None:
    teacher = tiny_model("bart")
    student = create_student(teacher, 2, 2, decoder_ffn_dim=8, batches=data(teacher))
    assert architectures.ffn_dims(student.config) == (32, 8)
    batch = tiny_batch(teacher)
    assert torch.equal(encode(student, batch), encode(teacher, batch))


@pytest.mark.parametrize(
    ("model_type", "options", "message"),
    [
        ("bart", {"encoder_ffn_dim": 64}, "`student.encoder_ffn_dim` 64 is not possible, the teacher has 32: choose 1"),
        ("bart", {"num_heads": 1}, "`student.num_heads` 1: the heads of bart models divide their width"),
        ("t5", {"num_heads": 3}, "`student.num_heads` 3 is not possible, the teacher has 2: choose 1 to 2"),
        ("t5", {"encoder_ffn_dim": 0.5}, "16 and `student.decoder_ffn_dim` 32: t5 models have one d_ff for both"),
        ("bart", {"encoder_ffn_dim": 0.5}, "a narrower student is calibrated on data: give `batches`"),
        ("bart", {"encoder_ffn_dim": 0.5, "batches": []}, "but `batches` is empty: give some"),
    ],
)
def test_impossible_widths_are_refused(model_type: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        create_student(tiny_model(model_type), 1, 1, **options)


def test_fractions_are_rounded_to_eights() -> None:
    config = tiny_model("bart", encoder_ffn_dim=100, decoder_ffn_dim=100).config
    assert resolve_widths(config, 0.5, 0.01).ffn == (48, 8)
    assert resolve_widths(config, 0.999, 50).ffn == (96, 50)
    assert resolve_widths(config).ffn == (100, 100)
    assert resolve_widths(tiny_model("bart", encoder_ffn_dim=5).config, 0.9).ffn == (5, 32)


def test_narrowing_in_place_writes_the_config() -> None:
    model = tiny_model("t5gemma")
    narrow(model, Widths((16, 24), None, 16), data(model))
    assert (model.config.encoder.intermediate_size, model.config.decoder.intermediate_size) == (16, 24)
