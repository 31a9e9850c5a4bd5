"""One training step of every family: the terms, what must not change them, and who takes part."""

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from seq2seq_distill.config import LossConfig, OptimConfig, RunConfig, TrainerConfig
from seq2seq_distill.losses.blend import LossReport, StepTokens
from seq2seq_distill.losses.logits import Term, kl_divergence
from seq2seq_distill.models import architectures, forward
from seq2seq_distill.models.freezing import freeze_parts
from seq2seq_distill.models.hooks import Feature, capture_features
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.modules.distillers import SummarizationDistiller, TranslationDistiller
from seq2seq_distill.modules.optim import build_optimizer
from seq2seq_distill.modules.summarization import SummarizationModule
from seq2seq_distill.modules.translation import TranslationModule
from seq2seq_distill.shrink.student import create_student
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.errors import ConfigError
from tests.tiny_models import families, tiny_batch, tiny_model
from tests.tiny_tokenizers import plain_tokenizer

some_families = pytest.mark.parametrize("model_type", ["bart", "marian", "pegasus", "t5"])
STILL = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
HIDDEN = LossConfig(alpha_hid=1.0)


def distiller(student: PreTrainedModel, teacher: PreTrainedModel, loss: LossConfig = HIDDEN) -> SummarizationDistiller:
    """In eval mode: nothing is random, and the teacher's entropy is told too."""
    config = RunConfig(task="summarization", loss=loss)
    return SummarizationDistiller(student, Teacher(teacher), plain_tokenizer(), config, 4).eval()


def rows(model: PreTrainedModel, **shape: int) -> dict[str, Tensor]:
    batch = tiny_batch(model, **shape)
    return {**batch, "row": torch.arange(len(batch["labels"]))}


def padded(batch: dict[str, Tensor], model: PreTrainedModel, source: int, target: int) -> dict[str, Tensor]:
    """The same rows with more columns of padding."""
    pad = architectures.stack_configs(model.config)[0].pad_token_id
    fill = {"input_ids": (source, pad), "labels": (target, IGNORE_INDEX), "row": (0, 0)}
    wide = {}
    for name, field in batch.items():
        columns, value = fill.get(name, (source, 0))
        wide[name] = F.pad(field, (0, columns), value=value) if columns else field
    return wide


def with_empty_row(batch: dict[str, Tensor], model: PreTrainedModel) -> dict[str, Tensor]:
    """The same rows and the one that a process without rows gets."""
    empty = {name: torch.zeros_like(field[:1]) for name, field in batch.items()}
    empty["input_ids"].fill_(architectures.stack_configs(model.config)[0].pad_token_id)
    empty["attention_mask"][:, 0] = 1
    empty["labels"].fill_(IGNORE_INDEX)
    empty["row"].fill_(-1)
    if "global_attention_mask" in batch:
        empty["global_attention_mask"][:, 0] = 1
    return {name: torch.cat([field, empty[name]]) for name, field in batch.items()}


def report(
    module: SummarizationModule, batch: dict[str, Tensor], counts: dict[str, Tensor] | None = None, parts: int = 1
) -> LossReport:
    """As `training_step` makes it, of a step of so many parts; `counts` of the whole step, else the batch's own."""
    if counts is None:
        return module.compute_loss(batch)
    of_source = [counts[name] for name in counts if name in module.objective.source_terms and counts[name]]
    source = of_source[0] if of_source else 0
    return module.compute_loss(batch, tokens=StepTokens(counts["mlm_loss"], source, parts))


def assert_same(got: dict[str, Term], expected: dict[str, Term]) -> None:
    assert got.keys() == expected.keys()
    for name, term in expected.items():
        assert got[name].count == term.count, name
        ours, theirs = (float(t.sum.detach() / t.count) for t in (got[name], term))
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5), name


# ------------------------------------------------------------------------------------------- terms, every family


@families()
def test_student_equal_to_its_teacher_has_nothing_to_learn_from_it(model_type: str) -> None:
    teacher = tiny_model(model_type)
    module = distiller(create_student(teacher, 2, 2), teacher)
    parts = report(module, rows(teacher)).parts
    assert not module.shares_encoder
    assert all(abs(parts[name]) < 1e-6 for name in ("ce_loss", "hid_loss_enc", "hid_loss_dec"))
    assert parts["mlm_loss"] > 0 and parts["teacher_entropy"] > 0


@families()
@pytest.mark.parametrize("normalize", [False, True])
def test_padding_columns_change_no_term(model_type: str, normalize: bool) -> None:
    """H2, H4, H33: pads were counted, and normed over."""
    teacher = tiny_model(model_type)
    module = distiller(create_student(teacher, 1, 1), teacher, LossConfig(alpha_hid=1.0, normalize_hidden=normalize))
    batch = rows(teacher)
    terms = module.compute_loss(batch).terms
    assert all(term.sum > 0 for term in terms.values())
    for source, target in ((5, 0), (13, 0), (0, 4), (13, 9)):
        if model_type != "prophetnet" or target == 0:
            assert_same(module.compute_loss(padded(batch, teacher, source, target)).terms, terms)


@pytest.mark.xfail(strict=True, reason="transformers mixes up the axes of ProphetNet's relative positions when T > 1")
def test_padding_columns_of_the_target_change_no_term_of_prophetnet() -> None:
    teacher = tiny_model("prophetnet")
    module = distiller(create_student(teacher, 1, 1), teacher)
    batch = rows(teacher)
    assert_same(module.compute_loss(padded(batch, teacher, 0, 4)).terms, module.compute_loss(batch).terms)


@families()
def test_row_that_counts_nowhere_changes_nothing(model_type: str) -> None:
    teacher = tiny_model(model_type)
    module = distiller(create_student(teacher, 1, 1), teacher)
    batch = rows(teacher)
    both = with_empty_row(batch, teacher)
    assert_same(module.compute_loss(both).terms, module.compute_loss(batch).terms)
    alone = {name: field[-1:] for name, field in both.items()}
    terms = module.compute_loss(alone).terms
    assert all((term.sum.item(), term.count.item()) == (0.0, 0) for term in terms.values())
    report(module, alone).loss.backward()
    for name, parameter in module.named_parameters():  # DDP waits for the gradient of every one
        if parameter.requires_grad:
            assert parameter.grad is not None and not parameter.grad.any(), name


@families()
def test_splitting_the_batch_changes_no_gradient(model_type: str) -> None:
    teacher = tiny_model(model_type)
    module = distiller(create_student(teacher, 1, 1), teacher)
    batch = rows(teacher, batch=4)
    counts = {name: term.count for name, term in module.compute_loss(batch).terms.items()}
    report(module, batch).loss.backward()
    expected = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    for part in range(3):
        own = {name: field[part::3] for name, field in batch.items()}
        (report(module, own, counts, parts=3).loss / 3).backward()
    for name, gradient in expected.items():
        got = module.get_parameter(name).grad
        assert got is not None
        torch.testing.assert_close(got, gradient, rtol=1e-4, atol=1e-5, msg=name)


@families()
def test_step_under_bf16_autocast_gives_finite_fp32_losses(model_type: str) -> None:
    teacher = tiny_model(model_type)
    module = distiller(create_student(teacher, 1, 1), teacher)
    module.train()
    with torch.autocast("cpu", torch.bfloat16):
        result = report(module, rows(teacher))
    assert {part.dtype for part in (result.loss, *result.parts.values())} == {torch.float32}
    assert all(torch.isfinite(part) and part > 0 for part in (result.loss, *result.parts.values()))
    result.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


@families()
def test_shared_encoder_gives_what_separate_encoders_give(model_type: str) -> None:
    """H7: sharing is for an encoder that is the teacher's and frozen, and changes no result."""
    teacher = tiny_model(model_type)
    student = create_student(teacher, decoder_layers=1)
    assert not distiller(student, teacher).shares_encoder  # it may still move
    freeze_parts(student, encoder=True, embeddings=True)
    module = distiller(student, teacher)
    module.train()
    assert module.shares_encoder
    batch = rows(teacher)
    states = torch.random.get_rng_state()
    shared = module.compute_loss(batch).terms
    module.teacher_runner.shares_encoder = False
    torch.random.set_rng_state(states)
    assert_same(module.compute_loss(batch).terms, shared)


def test_frozen_encoder_that_differs_is_not_shared() -> None:
    teacher = tiny_model("bart")
    student = create_student(teacher, decoder_layers=1)
    freeze_parts(student, encoder=True, embeddings=True)
    layer: Any = architectures.encoder_layers(student)[1]
    with torch.no_grad():
        layer.fc1.weight[0, 0] += 1
    assert not distiller(student, teacher).shares_encoder
    pruned = create_student(teacher, 1, 1)
    freeze_parts(pruned, encoder=True, embeddings=True)
    assert not distiller(pruned, teacher).shares_encoder
    moving = create_student(teacher, decoder_layers=1)
    freeze_parts(moving, encoder=True, embeddings=False)  # the embeddings it has in common with the decoder still move
    assert not distiller(moving, teacher).shares_encoder


@pytest.mark.parametrize("model_type", ["t5", "marian", "pegasus"])
def test_first_target_token_is_distilled(model_type: str) -> None:
    """H2: the mask was `decoder_input_ids != pad`, and these decoders start with pad."""
    teacher = tiny_model(model_type)
    module = distiller(create_student(teacher, 1, 1), teacher)
    batch = rows(teacher, batch=1, target=4)
    pad = teacher.config.pad_token_id
    assert forward.decoder_inputs(teacher, batch["labels"])[0, 0] == pad
    whole = module.compute_loss(batch).terms["ce_loss"]
    firsts = module.compute_loss({**batch, "labels": batch["labels"][:, :1]}).terms["ce_loss"]
    assert firsts.count == 1 and firsts.sum > 0
    later = {**batch, "labels": batch["labels"].clone()}
    inputs = forward.decoder_inputs(teacher, batch["labels"])
    later["labels"][:, 0] = IGNORE_INDEX
    with pytest.MonkeyPatch.context() as patch:  # the same decoder inputs, the first label aside
        patch.setattr(forward, "decoder_inputs", lambda model, labels: inputs)
        rest = module.compute_loss(later).terms["ce_loss"]
    assert (whole.count, rest.count) == (4, 3)
    torch.testing.assert_close(firsts.sum + rest.sum, whole.sum)


@some_families
@pytest.mark.parametrize("encoder_layers", [1, 2])
def test_teacher_decodes_from_its_own_encoder(model_type: str, encoder_layers: int) -> None:
    """H8: a pruned student encoder fed the teacher's decoder."""
    teacher = tiny_model(model_type)
    student = create_student(teacher, encoder_layers, 1)
    batch = rows(teacher)
    inputs = {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["attention_mask"],
        "decoder_input_ids": forward.decoder_inputs(teacher, batch["labels"]),
    }
    with torch.no_grad():
        own, other = (model(**inputs).logits for model in (student, teacher))
    expected = kl_divergence(own, other, batch["labels"], 2.0)
    assert_same({"ce_loss": distiller(student, teacher).compute_loss(batch).terms["ce_loss"]}, {"ce_loss": expected})


def test_gradient_checkpointing_that_an_architecture_lacks_is_refused() -> None:
    config = RunConfig(task="summarization", trainer=TrainerConfig(gradient_checkpointing=True))
    with pytest.raises(ConfigError, match="`trainer.gradient_checkpointing` true: fsmt models lack it"):
        SummarizationModule(tiny_model("fsmt"), plain_tokenizer(), config, 4)


@families("fsmt")
def test_gradient_checkpointing_changes_no_gradient(model_type: str) -> None:
    teacher = tiny_model(model_type)
    batch = rows(teacher)
    found = []
    for checkpointing in (False, True):
        config = RunConfig(task="summarization", trainer=TrainerConfig(gradient_checkpointing=checkpointing))
        module = SummarizationDistiller(create_student(teacher, 1, 1), Teacher(teacher), plain_tokenizer(), config, 4)
        module.train()
        torch.manual_seed(0)  # with dropout
        report(module, batch).loss.backward()
        found.append({name: p.grad for name, p in module.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=name)


@some_families
@pytest.mark.parametrize(("precision", "close"), [("bf16", 0.05), ("int8", 0.05)])
def test_teacher_of_lower_precision_says_nearly_the_same(model_type: str, precision: str, close: float) -> None:
    teacher, batch = tiny_model(model_type), rows(tiny_model(model_type))
    student = create_student(teacher, 2, 1)
    freeze_parts(student, encoder=True, embeddings=True)
    losses = []
    for lowered in ("32", precision):
        module = distiller(student, copy.deepcopy(teacher))
        assert module.shares_encoder
        module.teachers[0].cast_weights(lowered)
        losses.append(report(module, batch).parts["ce_loss"].item())
    assert losses[1] == pytest.approx(losses[0], rel=close)
    assert losses[1] != losses[0]


@some_families
def test_a_shared_encoder_is_in_memory_once(model_type: str) -> None:
    teacher = tiny_model(model_type)
    student = create_student(teacher, 2, 1)
    freeze_parts(student, encoder=True, embeddings=True)
    module = distiller(student, teacher)
    own, others = (dict(model.get_encoder().named_parameters()) for model in (student, teacher))
    assert all(own[name].data_ptr() == parameter.data_ptr() for name, parameter in others.items())
    module.teachers[0].to("meta", encoder=False)  # as to a GPU: only what the teacher needs there
    assert {p.device.type for p in teacher.get_decoder().parameters()} == {"meta"}
    assert {p.device.type for p in architectures.encoder_layers(teacher).parameters()} == {"cpu"}


def test_weights_are_the_configured_ones() -> None:
    teacher = tiny_model("t5")
    module = distiller(create_student(teacher, 1, 1), teacher, LossConfig(0.5, 0.3, 2.0, label_smoothing=0.1))
    result = report(module, rows(teacher))
    part = result.parts
    expected = 0.5 * part["ce_loss"] + 0.3 * part["mlm_loss"] + 2 * (part["hid_loss_enc"] + part["hid_loss_dec"])
    torch.testing.assert_close(result.loss, expected)
    assert {"loss", "ce_loss", "mlm_loss", "hid_loss_enc", "hid_loss_dec"} <= result.named().keys()


def test_without_teacher_the_labels_are_all() -> None:
    model = tiny_model("t5")
    config = RunConfig(task="summarization")
    result = report(SummarizationModule(model, plain_tokenizer(), config, 4), rows(model))
    assert result.parts.keys() == {"mlm_loss"} and result.loss == result.parts["mlm_loss"]


def test_hidden_states_are_left_alone_without_weight() -> None:
    """Not even widths need to agree then."""
    teacher = tiny_model("bart")
    module = distiller(tiny_model("bart", d_model=8), teacher, LossConfig())
    parts = report(module, rows(teacher)).parts
    assert parts["hid_loss_enc"] == parts["hid_loss_dec"] == 0 and parts["ce_loss"] > 0


# --------------------------------------------------------------------------------------------- hidden states


def outputs(model: PreTrainedModel, batch: dict[str, Tensor], name: str) -> list[Tensor]:
    """Outputs of all layers of a BART stack, by transformers' own tuple, whose entry 0 is the embeddings."""
    decoder_input_ids = forward.decoder_inputs(model, batch["labels"])
    fields = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        result = model(**fields, decoder_input_ids=decoder_input_ids, output_hidden_states=True)
    return list(result[f"{name}_hidden_states"][1:])


def looped_hidden(pairs: list[tuple[Tensor, Tensor]], mask: Tensor) -> float:
    chosen = mask.bool()
    return sum(float((own - other)[chosen].pow(2).mean()) for own, other in pairs) / len(pairs)


@pytest.mark.parametrize(
    ("forward", "encoder_pairs", "decoder_pairs"),
    [(False, [(0, 0), (1, 5)], [(0, 0), (1, 2), (2, 5)]), (True, [(0, 3), (1, 5)], [(0, 1), (1, 4), (2, 5)])],
)
def test_layer_outputs_are_compared_and_the_last_with_the_last(
    forward: bool, encoder_pairs: list[tuple[int, int]], decoder_pairs: list[tuple[int, int]]
) -> None:
    """H1: layer inputs were compared, and the student's last layer never."""
    teacher = tiny_model("bart", encoder_layers=6, decoder_layers=6)
    student = create_student(teacher, 2, 3)
    module = distiller(student, teacher, LossConfig(alpha_hid=1.0, supervise_forward=forward))
    batch = rows(teacher)
    parts = report(module, batch).parts
    for side, pairs, mask in (
        ("encoder", encoder_pairs, batch["attention_mask"]),
        ("decoder", decoder_pairs, batch["labels"] != IGNORE_INDEX),
    ):
        own, other = outputs(student, batch, side), outputs(teacher, batch, side)
        expected = looped_hidden([(own[i], other[j]) for i, j in pairs], mask)
        assert parts[f"hid_loss_{side[:3]}"].item() == pytest.approx(expected, rel=1e-4)


def test_last_layer_alone_is_the_teachers_last() -> None:
    """H1, H5: a student of one layer, copied from layer 0, is held to where the teacher ends."""
    teacher = tiny_model("bart", decoder_layers=4)
    student = create_student(teacher, decoder_layers=1)
    batch = rows(teacher)
    got = report(distiller(student, teacher), batch).parts["hid_loss_dec"].item()
    expected = looped_hidden(
        [(outputs(student, batch, "decoder")[0], outputs(teacher, batch, "decoder")[3])],
        batch["labels"] != IGNORE_INDEX,
    )
    assert got == pytest.approx(expected, rel=1e-4)


@families()
def test_every_student_layer_learns_from_hidden_states(model_type: str) -> None:
    teacher = tiny_model(model_type, encoder_layers=3, decoder_layers=3)
    module = distiller(create_student(teacher, 2, 2), teacher, LossConfig(alpha_ce=0, alpha_mlm=0, alpha_hid=1))
    report(module, rows(teacher)).loss.backward()
    for layers in (architectures.encoder_layers(module.student), architectures.decoder_layers(module.student)):
        for layer in layers:
            assert any(p.grad is not None and p.grad.any() for p in layer.parameters())


def test_given_student_learns_from_hidden_states_too() -> None:
    """H9: an existing model as student silently turned the hidden loss off."""
    teacher = tiny_model("t5", encoder_layers=4, decoder_layers=4)
    module = distiller(tiny_model("t5", seed=5), teacher)
    assert module.objective.pairs["encoder"] == module.objective.pairs["decoder"] == ((0, 1), (1, 3))
    parts = report(module, rows(teacher)).parts
    assert parts["hid_loss_enc"] > 0 and parts["hid_loss_dec"] > 0


def test_given_student_that_was_cut_from_a_deeper_model_is_matched_by_depth() -> None:
    """Layers that this teacher does not have cannot be what the student's were copied from."""
    student = create_student(tiny_model("t5", decoder_layers=12), 2, 3)
    assert student.config.distilled_decoder_layers == [0, 6, 11]
    module = distiller(student, tiny_model("t5", decoder_layers=6))
    assert module.objective.pairs["decoder"] == ((0, 1), (1, 4), (2, 5))


def test_unequal_widths_are_refused_where_they_matter() -> None:
    with pytest.raises(
        ConfigError, match="the student's encoder is 8 wide and the teacher's 16: set `loss.alpha_hid` 0"
    ):
        distiller(tiny_model("bart", d_model=8), tiny_model("bart"))


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_layerdrop_drops_pairs_and_shifts_none(side: str) -> None:
    """The hidden_states tuple gets shorter with LayerDrop, so that its entries are other layers than before."""
    teacher = tiny_model("bart", encoder_layers=3, decoder_layers=3)
    student = create_student(teacher, 3, 3, overrides={**STILL, f"{side}_layerdrop": 0.5})
    module = distiller(student, teacher)
    module.train()
    batch = rows(teacher)
    mask = batch["attention_mask"] if side == "encoder" else batch["labels"] != IGNORE_INDEX
    other = outputs(teacher, batch, side)
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        with capture_features(student, [Feature(side, "hidden", layer) for layer in range(3)]) as features:
            term = module.compute_loss(batch).terms[f"hid_loss_{side[:3]}"]
        ran = tuple(feature.layer for feature in features)
        seen.add(ran)
        pairs = [(own.detach(), other[feature.layer]) for feature, own in features.items()]
        expected = looped_hidden(pairs, mask) if ran else 0.0
        assert float(term.sum / term.count) == pytest.approx(expected, rel=1e-4, abs=1e-9), ran
        if ran == (0, 2):  # layer 0 is where the teacher is, layer 2 is not
            assert expected > 1e-3
    assert {(), (0, 2), (0, 1, 2)} <= seen


# ------------------------------------------------------------------------------ who is trained, in which mode


@some_families
def test_teacher_is_in_no_part_of_the_module(model_type: str) -> None:
    """H6, H29: the teacher's weights were in every checkpoint; its dropout may have been on."""
    teacher = tiny_model(model_type)
    module = distiller(create_student(teacher, 1, 1), teacher)
    theirs = {id(part) for part in (*teacher.parameters(), *teacher.buffers(), *teacher.modules())}
    ours = {id(part) for part in (*module.parameters(), *module.buffers(), *module.modules())}
    assert not theirs & ours
    assert all(name.startswith("student.") for name in module.state_dict())
    storages = {p.data_ptr() for p in teacher.parameters()}
    optimizer = module.configure_optimizers()["optimizer"]
    assert not storages & {p.data_ptr() for group in optimizer.param_groups for p in group["params"]}
    module.train()
    assert not any(part.training for part in teacher.modules())
    report(module, rows(teacher)).loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert copy.deepcopy(module).teacher is module.teacher


def test_teacher_does_not_drop_out_even_if_told_to_train() -> None:
    """H16: a `.train()` call switched a registered teacher's dropout on."""
    teacher = tiny_model("bart", dropout=0.5)
    module = distiller(create_student(teacher, 2, 2, overrides=STILL), teacher)
    module.train()
    teacher.train()
    assert report(module, rows(teacher)).parts["ce_loss"].abs() < 1e-6


def test_fit_trains_with_dropout() -> None:
    """H16: a loaded model is in eval mode and Lightning leaves it so."""
    teacher = tiny_model("bart", dropout=0.5)
    module = distiller(create_student(teacher, 2, 2), teacher)
    assert not module.student.training
    module.on_fit_start()
    assert all(part.training for part in module.student.modules())
    batch = rows(teacher)
    assert report(module, batch).loss != report(module, batch).loss


@families()
@pytest.mark.parametrize("embeddings", [False, True])
def test_frozen_encoder_does_not_drop_out(model_type: str, embeddings: bool) -> None:
    """H7: a frozen encoder still applied dropout."""
    keys: dict[str, Any] = {} if model_type == "t5gemma" else {"dropout_rate" if "t5" in model_type else "dropout": 0.5}
    teacher = tiny_model(model_type, **keys)
    student = create_student(teacher, 2, 1)
    freeze_parts(student, encoder=True, embeddings=embeddings)
    module = distiller(student, teacher)
    module.train()
    assert not any(part.training for part in architectures.encoder_layers(student).modules())
    assert all(part.training for part in architectures.decoder_layers(student).modules())
    batch = rows(teacher)
    assert torch.equal(forward.encode(student, batch), forward.encode(student, batch))


@families()
def test_freezing_the_encoder_leaves_the_rest_alone(model_type: str) -> None:
    """H10: freezing the encoder also froze the tied embeddings and the head, unasked."""
    student = create_student(tiny_model(model_type), 1, 1)
    born = {name for name, p in student.named_parameters() if p.requires_grad}
    encoder = {id(p) for p in student.get_encoder().parameters()}
    decoder = {id(p) for p in student.get_decoder().parameters()}
    outside = {id(p) for name, p in student.named_parameters() if id(p) not in encoder} | decoder
    freeze_parts(student, encoder=True, embeddings=False)
    trained = {name for name, p in student.named_parameters() if p.requires_grad}
    assert trained == {name for name in born if id(student.get_parameter(name)) in outside}
    assert forward.output_head(student).weight.requires_grad
    assert not any(p.requires_grad for p in architectures.encoder_layers(student).parameters())


@families()
def test_freezing_embeddings_freezes_tokens_and_positions(model_type: str) -> None:
    student = create_student(tiny_model(model_type), 1, 1)
    freeze_parts(student, encoder=False, embeddings=True)
    kept = {name for name, p in student.named_parameters() if not p.requires_grad}
    assert kept and all("embed" in name or "shared" in name or "lm_head" in name or "proj" in name for name in kept)
    assert not student.get_input_embeddings().weight.requires_grad
    for layers in (architectures.encoder_layers(student), architectures.decoder_layers(student)):
        assert all(p.requires_grad for p in layers.parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_pad_row_of_marian_stays_zero(optimizer: Any) -> None:
    """The tied head would move the row, and with it where decoding starts."""
    teacher = tiny_model("marian")
    module = distiller(create_student(teacher, 2, 1), teacher)
    own: Any = module.student
    embedding, pad = own.get_decoder().get_input_embeddings().weight, teacher.config.pad_token_id
    assert not embedding[pad].any() and own.lm_head.weight is embedding
    before, batch = embedding.detach().clone(), rows(teacher)
    steps = build_optimizer(module, OptimConfig(name=optimizer, lr=0.01, weight_decay=0.1))
    for _ in range(3):
        steps.zero_grad()
        report(module, batch).loss.backward()
        steps.step()
    moved = (embedding != before).any(dim=1)
    assert not moved[pad] and moved.sum() == len(moved) - 1


def test_pad_row_of_other_models_moves() -> None:
    model: Any = tiny_model("bart")
    module = SummarizationModule(model, plain_tokenizer(), RunConfig(task="summarization"), 4)
    report(module, rows(model)).loss.backward()
    gradient = model.get_input_embeddings().weight.grad
    assert gradient is not None and gradient[model.config.pad_token_id].any()


def test_the_classes_are_one_chain() -> None:
    assert issubclass(TranslationDistiller, SummarizationDistiller) and issubclass(
        TranslationModule, SummarizationModule
    )
    assert issubclass(SummarizationDistiller, SummarizationModule)
    assert (TranslationDistiller.task, SummarizationDistiller.task) == ("translation", "summarization")
    for sub, base in ((TranslationDistiller, SummarizationDistiller), (TranslationModule, SummarizationModule)):
        assert not [name for name in vars(sub) if inspect.isfunction(vars(base).get(name))]
    assert "_step" not in vars(SummarizationDistiller)
    assert issubclass(SummarizationModule, nn.Module)
