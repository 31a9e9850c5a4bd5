"""Matches in a training step and in a run: which layers meet, what must not change them, where projections live."""

import copy
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from seq2seq_distill.commands.average.command import average
from seq2seq_distill.commands.average.options import AverageConfig
from seq2seq_distill.commands.convert.command import convert
from seq2seq_distill.commands.convert.options import ConvertConfig
from seq2seq_distill.config import FeatureLossConfig, LossConfig, OptimConfig, RunConfig
from seq2seq_distill.losses.attention import attention_ce
from seq2seq_distill.losses.hidden import cosine_distance, fsp_gram
from seq2seq_distill.models import architectures, forward
from seq2seq_distill.models.freezing import freeze_parts
from seq2seq_distill.models.hooks import Feature, capture_features
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.modules.distillers import SummarizationDistiller
from seq2seq_distill.shrink.student import create_student
from seq2seq_distill.training import run as train
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.errors import ConfigError
from tests.modules.test_modules import STILL, assert_same, padded, report, rows, with_empty_row
from tests.tiny_models import families, tiny_model
from tests.tiny_runs import config
from tests.tiny_tokenizers import plain_tokenizer

HIDDEN_LOSSES = ("mse", "cosine", "pkd", "pkd_first", "mmd")
LABELS_ALONE = LossConfig(alpha_ce=0.0, alpha_mlm=0.0)


def match(**keys: Any) -> FeatureLossConfig:
    return FeatureLossConfig(**({"student": -1, "teacher": -1} if "layers" not in keys else {}) | keys)


def distiller(
    student: PreTrainedModel, teacher: PreTrainedModel, *matches: FeatureLossConfig, loss: LossConfig | None = None
) -> SummarizationDistiller:
    """In eval mode: nothing is random."""
    run = RunConfig(task="summarization", matches=list(matches), loss=loss or LossConfig())
    return SummarizationDistiller(student, Teacher(teacher), plain_tokenizer(), run, 4).eval()


def all_matches(model_type: str) -> list[FeatureLossConfig]:
    """Every feature by every loss, as far as the family has them."""
    found = [match(side=side, loss=loss) for side in ("encoder", "decoder") for loss in HIDDEN_LOSSES]
    found += [match(side=side, loss="gram", student=[0, -1], teacher=[0, -1]) for side in ("encoder", "decoder")]
    kinds = {("encoder", "self_attention"), ("decoder", "self_attention"), ("decoder", "cross_attention")}
    without = dict(architectures.ARCHITECTURES[model_type].no_attention_weights)
    found += [
        match(side=side, feature=kind, loss=loss)
        for side, kind in sorted(kinds)
        if side not in without
        for loss in ("mse", "ce")
    ]
    return found


def of_matches(terms: dict[str, Any]) -> dict[str, Any]:
    return {name: term for name, term in terms.items() if name.startswith("match_")}


# ---------------------------------------------------------------------------------------------------- in a step


@families()
def test_equal_models_match_and_others_do_not(model_type: str) -> None:
    teacher = tiny_model(model_type, encoder_layers=3, decoder_layers=3)
    matches = all_matches(model_type)
    module, batch = distiller(create_student(teacher, 3, 3), teacher, *matches), rows(teacher)
    terms = of_matches(module.compute_loss(batch).terms)
    assert len(terms) == len(matches) >= 12
    assert all(abs(float(term.sum.detach())) < 1e-4 for term in terms.values()), terms
    other = of_matches(distiller(create_student(teacher, 2, 2), teacher, *matches).compute_loss(batch).terms)
    assert all(float(term.sum.detach()) > 1e-5 for term in other.values()), other


@families()
def test_padding_and_rows_that_count_nowhere_change_no_match(model_type: str) -> None:
    teacher = tiny_model(model_type)
    matches = [replace(each, student=[0, 0] if each.loss == "gram" else 0) for each in all_matches(model_type)]
    module = distiller(create_student(teacher, 1, 1), teacher, *matches)
    batch = rows(teacher)
    terms = module.compute_loss(batch).terms
    for source, target in ((13, 0), (5, 0 if model_type == "prophetnet" else 4)):
        assert_same(module.compute_loss(padded(batch, teacher, source, target)).terms, terms)
    both = with_empty_row(batch, teacher)
    assert_same(module.compute_loss(both).terms, terms)
    alone = {name: field[-1:] for name, field in both.items()}
    empty = module.compute_loss(alone).terms
    assert all((term.sum.item(), term.count.item()) == (0.0, 0) for term in empty.values())


@pytest.mark.parametrize("model_type", ["bart", "fsmt", "led", "t5", "t5gemma"])
def test_splitting_the_batch_changes_no_gradient(model_type: str) -> None:
    """Of the student, nor of its projections."""
    teacher = tiny_model(model_type)
    matches = [match(side=side, projection="tanh") for side in ("encoder", "decoder")]
    matches += [replace(each, loss="gram", student=[0, 0], teacher=[0, 1]) for each in matches]
    module = distiller(create_student(teacher, 1, 1), teacher, *matches, loss=LABELS_ALONE)
    batch = rows(teacher, batch=4)
    counts = {name: term.count for name, term in module.compute_loss(batch).terms.items()}
    report(module, batch).loss.backward()
    expected = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    assert sum(name.startswith("projections.") for name in expected) == 2 * len(matches)
    module.zero_grad()
    for part in range(3):
        own = {name: field[part::3] for name, field in batch.items()}
        (report(module, own, counts, parts=3).loss / 3).backward()
    for name, gradient in expected.items():
        torch.testing.assert_close(module.get_parameter(name).grad, gradient, rtol=1e-4, atol=1e-5, msg=name)


@families()
def test_shared_encoder_gives_what_separate_encoders_give(model_type: str) -> None:
    teacher = tiny_model(model_type, encoder_layers=3)
    student = create_student(teacher, decoder_layers=1)
    freeze_parts(student, encoder=True, embeddings=True)
    matches = [match(side="encoder", student=0), match()]
    if "encoder" not in dict(architectures.ARCHITECTURES[model_type].no_attention_weights):
        matches.append(match(side="encoder", student=0, feature="self_attention", loss="ce"))
    module = distiller(student, teacher, *matches)
    assert module.shares_encoder
    batch = rows(teacher)
    shared = module.compute_loss(batch).terms
    module.teacher_runner.shares_encoder = False
    terms = module.compute_loss(batch).terms
    assert_same(shared, terms)
    assert all(float(term.sum.detach()) > 1e-3 for term in of_matches(terms).values())


def test_frozen_encoder_that_is_matched_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    teacher = tiny_model("bart")
    student = create_student(teacher, decoder_layers=1)
    distiller(student, teacher, match(side="encoder"))
    assert "frozen" not in caplog.text
    freeze_parts(student, encoder=True, embeddings=True)
    distiller(student, teacher, match(), match(side="encoder"))
    assert "match_1_encoder_hidden_mse: the student's encoder is frozen and learns nothing from it" in caplog.text


@pytest.mark.parametrize(("side", "mask"), [("encoder", "attention_mask"), ("decoder", "labels")])
def test_chosen_layers_meet_and_negative_numbers_count_from_the_end(side: str, mask: str) -> None:
    teacher = tiny_model("bart", encoder_layers=5, decoder_layers=5)
    student = create_student(teacher, 3, 3)
    batch = rows(teacher)
    matches = [
        match(side=side, student=1, teacher=-2, loss="cosine"),
        match(side=side, student=-2, teacher=3, loss="cosine", weight=0.5),
        match(side=side, student=[0, -1], teacher=[1, -1], loss="gram"),
        match(side=side, student=-3, teacher=2, feature="self_attention", loss="ce"),
    ]
    module = distiller(student, teacher, *matches)
    result, terms = report(module, batch), module.compute_loss(batch).terms
    chosen = batch[mask] == 1 if side == "encoder" else batch[mask] != IGNORE_INDEX
    own, other = (features_of(model, batch, side) for model in (student, teacher))
    expected = [
        cosine_distance(own["hidden", 1], other["hidden", 3], chosen),
        cosine_distance(own["hidden", 1], other["hidden", 3], chosen),
        fsp_gram((own["hidden", 0], own["hidden", 2]), (other["hidden", 1], other["hidden", 4]), chosen),
        attention_ce(own["self_attention", 0], other["self_attention", 2], chosen, chosen),
    ]
    kinds = ("hidden_cosine", "hidden_cosine", "hidden_gram", "self_attention_ce")
    names = [f"match_{number}_{side}_{kind}" for number, kind in enumerate(kinds)]
    assert_same(of_matches(terms), dict(zip(names, expected, strict=True)))
    assert module.objective.source_terms == ({"hid_loss_enc", *names} if side == "encoder" else {"hid_loss_enc"})
    own_weights = (1.0, 0.5, 1.0, 1.0)
    weighted = sum(weight * result.parts[name] for weight, name in zip(own_weights, names, strict=True))
    rest = 0.8 * result.parts["ce_loss"] + 0.2 * result.parts["mlm_loss"]
    torch.testing.assert_close(result.loss, rest + weighted)


def features_of(model: PreTrainedModel, batch: dict[str, Tensor], side: str) -> dict[tuple[str, int], Tensor]:
    depth = len(architectures.layers(model, side))
    wanted = [Feature(side, kind, layer) for kind in ("hidden", "self_attention") for layer in range(depth)]
    with torch.no_grad(), capture_features(model, wanted) as features:
        state = forward.encode(model, batch)
        forward.decode(model, batch, state, forward.decoder_inputs(model, batch["labels"]))
    return {(feature.kind, feature.layer): tensor for feature, tensor in features.items()}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [("copied", [(0, 0), (1, 2), (2, 5)]), ("spread", [(0, 1), (1, 4), (2, 5)]), ("last", [(2, 5)])],
)
def test_shorthands(layers: str, expected: list[tuple[int, int]]) -> None:
    teacher = tiny_model("bart", decoder_layers=6)
    module = distiller(create_student(teacher, 2, 3), teacher, match(layers=layers))
    pairs = [(own.layer, other.layer) for (own,), (other,) in module.objective.matches[0].pairs]
    assert pairs == expected
    assert list(of_matches(module.compute_loss(rows(teacher)).terms)) == ["match_0_decoder_hidden_mse"]


@pytest.mark.parametrize(("layers", "forward"), [("copied", False), ("spread", True)])
def test_shorthands_on_both_sides_are_the_hidden_loss(layers: str, forward: bool) -> None:
    teacher = tiny_model("bart", encoder_layers=6, decoder_layers=6)
    student, batch = create_student(teacher, 2, 3), rows(teacher)
    decoder = match(layers=layers, weight=0.7)
    both = distiller(student, teacher, replace(decoder, side="encoder"), decoder)
    plain = distiller(student, teacher, loss=LossConfig(alpha_hid=0.7, supervise_forward=forward))
    ours, theirs = report(both, batch), report(plain, batch)
    torch.testing.assert_close(ours.loss, theirs.loss)
    for side in ("encoder", "decoder"):
        assert ours.parts[f"match_{side == 'decoder':d}_{side}_hidden_mse"] == theirs.parts[f"hid_loss_{side[:3]}"] > 0


def test_a_schedule_scales_the_weight_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = tiny_model("bart")
    growing, constant = match(weight=2.0, schedule="linear_growth"), match(weight=2.0)
    module = distiller(create_student(teacher, 1, 1), teacher, growing, constant)
    for step, factor in enumerate((0.0, 1 / 3, 2 / 3, 1.0)):
        monkeypatch.setattr(SummarizationDistiller, "global_step", step)
        for training in (True, False):
            module.train(training)
            options = module.step_options()
            weights = [options.weights[each.name] for each in module.objective.matches]
            assert weights == pytest.approx([2 * factor if training else 2.0, 2.0])


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_a_layer_that_layerdrop_leaves_out_adds_neither_sum_nor_count(side: str) -> None:
    teacher = tiny_model("bart", encoder_layers=3, decoder_layers=3)
    student = create_student(teacher, 3, 3, overrides={**STILL, f"{side}_layerdrop": 0.5})
    one = match(side=side, student=1, teacher=-1)
    module = distiller(student, teacher, one, match(side=side, layers="copied"), replace(one, feature="self_attention"))
    module.train()
    batch, seen = rows(teacher), set()
    for seed in range(20):
        torch.manual_seed(seed)
        with capture_features(student, [Feature(side, "hidden", layer) for layer in range(3)]) as features:
            terms = list(of_matches(module.compute_loss(batch).terms).values())
        ran = {feature.layer for feature in features}
        seen.add(tuple(sorted(ran)))
        assert [bool(term.count) for term in terms] == [1 in ran, bool(ran), 1 in ran]
        assert all(bool(term.sum > 0) <= bool(term.count) for term in terms)
    assert {(), (1,), (0, 2), (0, 1, 2)} <= seen


@pytest.mark.parametrize(
    "model_type",
    [f.model_type for f in architectures.ARCHITECTURES.values() if "decoder" not in dict(f.no_attention_weights)],
)
def test_attention_that_is_compared_is_not_dropped_out(model_type: str) -> None:
    teacher = tiny_model(model_type)
    student = create_student(teacher, 2, 2)
    matches = [match(feature=kind, loss="mse", student=0, teacher=0) for kind in ("self_attention", "cross_attention")]
    module, batch = distiller(student, teacher, *matches), rows(teacher)
    compared = [architectures.attention(student, "decoder", each.feature, 0) for each in matches]
    for part in student.modules():  # nothing else is random
        for name, value in vars(part).items():
            if isinstance(value, float) and ("drop" in name or name == "p"):
                setattr(part, name, 0.5 if part in compared else 0.0)
    module.train()
    assert student.training and architectures.decoder_layers(student)[0].training
    assert all(abs(float(term.sum.detach())) < 1e-6 for term in of_matches(module.compute_loss(batch).terms).values())
    for part in compared:
        part.train()
    assert any(float(term.sum.detach()) > 1e-3 for term in of_matches(module.compute_loss(batch).terms).values())


def test_attention_is_computed_so_that_its_weights_are_there(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    teacher = tiny_model("bart")
    student = create_student(teacher, 1, 1)
    distiller(student, teacher, match())
    assert {model.config._attn_implementation for model in (student, teacher)} == {"sdpa"}
    module = distiller(student, teacher, match(feature="cross_attention"))
    assert {model.config._attn_implementation for model in (student, teacher)} == {"eager"}
    assert "attention is computed as eager" in caplog.text
    module.on_fit_end()
    assert teacher.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("model_type", ["bart", "mvp", "t5", "m2m_100"])
def test_gradient_checkpointing_and_autocast(model_type: str) -> None:
    teacher = tiny_model(model_type)
    matches = [each for each in all_matches(model_type) if each.loss != "gram"]
    batch, found = rows(teacher), []
    for checkpointing in (False, True):
        student = create_student(teacher, 1, 1)
        module = distiller(student, teacher, *matches)
        if checkpointing:
            student.gradient_checkpointing_enable({"use_reentrant": False})
        module.train()
        torch.manual_seed(0)
        report(module, batch).loss.backward()
        found.append({name: p.grad for name, p in module.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=name)
    with torch.autocast("cpu", torch.bfloat16):
        result = report(module, batch)
    assert {part.dtype for part in result.parts.values()} == {torch.float32}
    assert all(torch.isfinite(part) and part > 0 for name, part in result.parts.items() if name.startswith("match"))


# --------------------------------------------------------------------------------------------------- projections


@pytest.mark.parametrize("projection", ["linear", "relu", "tanh"])
def test_projections_learn_to_bridge_widths(projection: str) -> None:
    """H36: projections were made afresh at each call, or left out of clipping and checkpoints."""
    teacher, student = tiny_model("bart"), tiny_model("bart", d_model=8, seed=1)
    run = RunConfig(
        task="summarization",
        matches=[match(layers="spread", projection=projection)],
        optim=OptimConfig(lr=0.0, projection_lr=0.05),
        loss=LABELS_ALONE,
    )
    module = SummarizationDistiller(student, Teacher(teacher), plain_tokenizer(), run, 4).eval()
    maps = module.projections["match_0_decoder_hidden_mse"]
    assert [(each[0].in_features, each[0].out_features) for each in maps] == [(8, 16), (8, 16)]
    optimizer = module.configure_optimizers()["optimizer"]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.0, 0.0, 0.05, 0.05]
    batch, losses = rows(teacher), []
    before = copy.deepcopy(student.state_dict())
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    for _ in range(12):
        loss = report(module, batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(weight, before[name]) for name, weight in student.state_dict().items())


def test_projections_follow_from_the_seed_alone() -> None:
    teacher, student = tiny_model("bart"), tiny_model("bart", d_model=8)
    found = []
    for before, seed in ((0, 42), (1, 42), (0, 43)):
        torch.manual_seed(before)
        run = RunConfig(task="summarization", seed=seed, matches=[match(projection="linear")])
        state = torch.random.get_rng_state()
        module = SummarizationDistiller(student, Teacher(teacher), plain_tokenizer(), run, 4)
        assert torch.equal(torch.random.get_rng_state(), state)
        found.append(module.projections.state_dict())
    assert found[0].keys() == {f"match_0_decoder_hidden_mse.0.0.{name}" for name in ("weight", "bias")}
    assert all(torch.equal(found[1][name], weight) for name, weight in found[0].items())
    assert not all(torch.equal(found[2][name], weight) for name, weight in found[0].items())


# ------------------------------------------------------------------------------------------------------- refused


WRONG: dict[str, tuple[FeatureLossConfig, str]] = {
    "teacher layer": (
        match(teacher=2),
        "`matches` entry 0, teacher 2: the teacher's decoder has 2 layers, choose -2 to 1",
    ),
    "student layers": (
        match(side="encoder", student=[0, -3], teacher=[0, 1], loss="gram"),
        "`matches` entry 0, student [0, -3]: the student's encoder has 2 layers, choose -2 to 1",
    ),
    "widths": (
        match(),
        "`matches` entry 0, loss mse compares states of one width, but the student's decoder is 8 wide and the "
        "teacher's 16: add projection linear, or choose loss mmd",
    ),
    "not copied": (
        match(layers="copied"),
        "`matches` entry 0, layers copied: the student's decoder was not cut from this teacher: choose spread or last",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_the_models_is_refused(name: str) -> None:
    entry, line = WRONG[name]
    with pytest.raises(ConfigError) as error:
        distiller(tiny_model("bart", d_model=8), tiny_model("bart"), entry)
    assert str(error.value) == line


def test_deeper_student_is_refused_by_spread_and_all_mistakes_are_told() -> None:
    with pytest.raises(ConfigError) as error:
        distiller(tiny_model("t5", decoder_layers=3), tiny_model("t5"), match(layers="spread"), match(teacher=9))
    lines = str(error.value).split("\n")
    assert lines[0].startswith("`matches` entry 0, layers spread with a student whose decoder depth 3 exceeds the")
    assert lines[1].startswith("`matches` entry 1, teacher 9: ")


@pytest.mark.parametrize(
    ("model_type", "side"),
    [(f.model_type, side) for f in architectures.ARCHITECTURES.values() for side, _ in f.no_attention_weights],
)
def test_attention_without_weights_is_refused(model_type: str, side: str) -> None:
    teacher = tiny_model(model_type)
    line = f"^`matches` entry 0, feature self_attention: the {side} of {model_type} models .*: choose feature hidden$"
    with pytest.raises(ConfigError, match=line):
        distiller(create_student(teacher, 1, 1), teacher, match(side=side, feature="self_attention"))


# -------------------------------------------------------------------------------------------------------- in runs


class Halt(Callback):
    """Ends a run after so many steps, as a fault would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


MATCHES = [
    {"layers": "copied", "projection": "tanh"},
    {"student": -1, "teacher": 0, "feature": "cross_attention", "loss": "ce"},
    {"side": "encoder", "layers": "last", "loss": "mmd", "schedule": "linear_decay"},
]
RUN: dict[str, Any] = {
    "matches": MATCHES,
    "student": {"encoder_layers": 1, "decoder_layers": 1, "dropout": 0.1},
    "optim": {"lr": 0.01, "projection_lr": 0.02},
    "eval": {"monitor": "loss", "n_speed": 0, "save_top_k": -1},
    "trainer": {"max_steps": 6, "val_check_interval": 3, "save_every_n_steps": 2},
}


def test_projections_are_in_checkpoints_and_in_no_student_and_a_resumed_run_ends_with_the_same_bits(
    tmp_path: Path,
) -> None:
    whole, stopped = (tmp_path / name for name in ("whole", "stopped"))
    train.run_config(config(tmp_path, "bart", **RUN, output_dir=str(whole)))
    run = config(tmp_path, "bart", **RUN, output_dir=str(stopped))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train.run_config(run, [Halt(5)])
    train.run_config(run)
    for name in ("metrics.jsonl", "best/model.safetensors", "best/config.json"):
        assert (whole / name).read_bytes() == (stopped / name).read_bytes(), name
    states = [torch.load(each / "checkpoints" / "last.ckpt", weights_only=True) for each in (whole, stopped)]
    assert states[0]["global_step"] == 6
    ours, theirs = (state["state_dict"] for state in states)
    assert all(torch.equal(theirs[name], weight) for name, weight in ours.items())
    name = "projections.match_0_decoder_hidden_mse.0.0.weight"
    earlier = next((whole / "checkpoints").glob("step=3*.ckpt"))
    assert not torch.equal(ours[name], torch.load(earlier, weights_only=True)["state_dict"][name])
    assert [group["initial_lr"] for group in states[0]["optimizer_states"][0]["param_groups"]][-1] == 0.02

    line = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])
    names = {"match_0_decoder_hidden_mse", "match_1_decoder_cross_attention_ce", "match_2_encoder_hidden_mmd"}
    assert {f"val_{name}" for name in names} <= line.keys()
    last, (converted, averaged) = whole / "checkpoints" / "last.ckpt", (tmp_path / each for each in ("one", "two"))
    convert(ConvertConfig(checkpoint=str(last), output_dir=str(converted)))
    average(AverageConfig(checkpoints=[str(last), str(earlier)], output_dir=str(averaged)))
    for folder in (whole / "best", whole / "student_init", converted, averaged):
        model = AutoModelForSeq2SeqLM.from_pretrained(folder)
        assert not any("projection" in name for name in model.state_dict())
        assert model.config._attn_implementation == "sdpa" and "eager" not in (folder / "config.json").read_text()
