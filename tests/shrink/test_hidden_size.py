"""Students of BART and its relatives with fewer hidden dimensions."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from seq2seq_distill.models.forward import output_head
from seq2seq_distill.shrink.hidden_size import MODEL_TYPES
from seq2seq_distill.shrink.student import create_student
from seq2seq_distill.utils.errors import ModelError
from tests.shrink.test_width import data, logits
from tests.tiny_models import FAMILIES, tiny_batch, tiny_model

FOUR_HEADS: dict[str, Any] = {"d_model": 32, "encoder_attention_heads": 4, "decoder_attention_heads": 4}


def error(student: PreTrainedModel, teacher: PreTrainedModel) -> float:
    """Mean squared distance of logits on the calibration data, padding aside."""
    rows = [(batch, batch["labels"] != -100) for batch in data(teacher)]
    return sum(float((logits(student, b) - logits(teacher, b))[mask].square().mean()) for b, mask in rows)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_repaired_student_is_nearer_to_its_teacher_and_loads_anywhere(model_type: str, tmp_path: Path) -> None:
    teacher = tiny_model(model_type, **FOUR_HEADS)
    students = [
        create_student(teacher, 2, 2, d_model=16, decoder_ffn_dim=24, batches=data(teacher), repair=repair)
        for repair in (True, False)
    ]
    assert error(students[0], teacher) < 0.8 * error(students[1], teacher)
    config = students[0].config
    assert (config.d_model, config.encoder_attention_heads, config.decoder_attention_heads) == (16, 2, 2)
    assert config.distilled_widths == {"decoder_ffn_dim": [24, 32], "d_model": [16, 32]}
    assert output_head(students[0]).weight is students[0].get_decoder().get_input_embeddings().weight
    students[0].save_pretrained(tmp_path)
    again, report = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["mismatched_keys"]
    batch = tiny_batch(teacher)
    assert torch.equal(logits(again.eval(), batch), logits(students[0], batch))
    source = {name: field for name, field in batch.items() if name != "labels"}
    assert again.generate(**source, max_new_tokens=4).shape[0] == 3


def test_the_whole_width_is_the_identity() -> None:
    teacher = tiny_model("bart")
    student = create_student(teacher, 2, 2, d_model=16, batches=data(teacher))
    assert torch.equal(logits(student, tiny_batch(teacher)), logits(teacher, tiny_batch(teacher)))


@pytest.mark.parametrize("model_type", ["bart", "mbart"])
@torch.no_grad()
def test_embeddings_that_are_scaled_by_the_width_keep_their_scale_and_the_temperature(model_type: str) -> None:
    """Two teachers that are one function have students that are one function."""
    plain: Any = tiny_model(model_type, **FOUR_HEADS, scale_embedding=False)
    scaled: Any = tiny_model(model_type, **FOUR_HEADS, scale_embedding=True)
    scaled.model.shared.weight.mul_(32**-0.5)
    decoder = scaled.model.decoder
    last = decoder.layer_norm if model_type == "mbart" else decoder.layers[-1].final_layer_norm
    last.weight.mul_(32**0.5)
    last.bias.mul_(32**0.5)
    batch = tiny_batch(plain)
    torch.testing.assert_close(logits(scaled, batch), logits(plain, batch), rtol=1e-4, atol=1e-4)
    for repair in (True, False):
        students = [create_student(t, 2, 2, d_model=16, batches=data(t), repair=repair) for t in (plain, scaled)]
        torch.testing.assert_close(*(logits(student, batch) for student in students), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("model_type", [name for name in FAMILIES if name not in MODEL_TYPES])
def test_other_families_are_refused_by_name(model_type: str) -> None:
    with pytest.raises(ModelError, match=f"`student.d_model` 8: the width of {model_type} models cannot be cut"):
        create_student(tiny_model(model_type), 1, 1, d_model=8, batches=[])


def test_heads_go_as_wholes() -> None:
    for size in (12, 64):
        with pytest.raises(ModelError, match=f"`student.d_model` {size}: attention loses whole heads: choose a mult"):
            create_student(tiny_model("bart", **FOUR_HEADS), 1, 1, d_model=size, batches=[])
    with pytest.raises(ModelError, match="the width of MVP models with prompts cannot be cut"):
        create_student(tiny_model("mvp", use_prompt=True), 1, 1, d_model=8, batches=[])
