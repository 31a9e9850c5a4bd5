"""The pre-flight passes sound students of every family, leaves no trace, and names each thing that is off."""

import copy
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seq2seq_distill.models import architectures, forward
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.shrink.student import create_student
from seq2seq_distill.training.components import build_components
from seq2seq_distill.training.preflight import _at_full_depth, _cut, preflight
from seq2seq_distill.training.run import run_config
from seq2seq_distill.training.token_checks import _ends
from seq2seq_distill.utils.errors import ModelError
from tests.tiny_models import families, tiny_batch, tiny_model, untie_head
from tests.tiny_runs import config, save_teacher
from tests.tiny_tokenizers import plain_tokenizer

GUESSING = "no better than guessing"
EOS, WORD, OTHER = 1, 9, 11
"""Of the plain tokenizer."""
SIDES = ("encoder", "decoder")


class Case:
    """A sound run of a tiny teacher, to be spoiled."""

    def __init__(self, folder: Path, model_type: str = "bart", **teacher: Any) -> None:
        save_teacher(folder / "teacher", model_type, **teacher)
        self.config = config(folder, model_type)
        self.parts = build_components(self.config)

    def copy(self) -> "Case":
        new = object.__new__(Case)
        new.config, parts = self.config, self.parts
        assert parts.teacher is not None
        teacher = Teacher(copy.deepcopy(parts.teacher.model))
        tokenizer = copy.deepcopy(parts.tokenizer)
        new.parts = replace(parts, student=copy.deepcopy(parts.student))
        view = replace(parts.tasks[0].student_view, tokenizer=tokenizer)
        new.change_task(teacher=teacher, student_view=view, teacher_view=view)
        return new

    @property
    def student(self) -> Any:
        return self.parts.student

    @property
    def teacher(self) -> Any:
        assert self.parts.teacher is not None
        return self.parts.teacher.model

    def given(self, **student: Any) -> None:
        """As if the student came with these options."""
        self.config = replace(self.config, student=replace(self.config.student, **student))

    def alone(self) -> None:
        """As if there were no teacher."""
        self.given(path="a/model")
        self.config = replace(self.config, teacher=None)
        self.change_task(teacher=None)

    def change_task(self, **changes: Any) -> None:
        """As if the run's one task had these components."""
        self.parts = replace(self.parts, tasks=(replace(self.parts.tasks[0], **changes),))

    def check(self) -> None:
        """With the config and the models as they have become."""
        teacher = self.parts.teacher
        self.change_task(
            config=self.config,
            student_generation=self.student.generation_config,
            teacher_generation=teacher.model.generation_config if teacher else None,
        )
        preflight(self.parts, self.config)

    def fault(self) -> list[str]:
        """Lines of the error."""
        with pytest.raises(ModelError) as raised:
            self.check()
        return str(raised.value).splitlines()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """A new copy of a family's case."""
    cases: dict[str, Case] = {}

    def of(model_type: str) -> Case:
        if model_type not in cases:
            cases[model_type] = Case(tmp_path_factory.mktemp(model_type), model_type)
        return cases[model_type].copy()

    return of


@pytest.fixture
def case(sound: Callable[[str], Case]) -> Case:
    return sound("bart")


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the pre-flight warned of, but for tiny teachers that have learned nothing."""

    def messages() -> list[str]:
        own = [record for record in caplog.records if record.name.endswith("preflight")]
        said = [record.getMessage() for record in own if record.levelno >= logging.WARNING]
        return [message for message in said if GUESSING not in message]

    return messages


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


# --------------------------------------------------------------------------------------------------------- sound


@families()
@pytest.mark.parametrize("decoder_layers", [1, 2])
def test_a_sound_run_of_every_family_passes_and_is_left_as_it_was(
    sound: Callable[[str], Case], warnings: Callable[[], list[str]], model_type: str, decoder_layers: int
) -> None:
    case = sound(model_type)
    case.parts = replace(case.parts, student=create_student(case.teacher, 2, decoder_layers))
    before = [state(model) for model in (case.student, case.teacher)]
    random_state = torch.random.get_rng_state()
    case.check()
    assert warnings() == []
    assert torch.equal(torch.random.get_rng_state(), random_state)
    for model, weights in zip((case.student, case.teacher), before, strict=True):
        after = model.state_dict()
        assert after.keys() == weights.keys() and all(torch.equal(after[name], weights[name]) for name in weights)
        assert not any(module.training for module in model.modules())
    assert architectures.depths(case.student.config) == (2, decoder_layers)
    assert any(weight.requires_grad for weight in case.student.parameters())
    assert not any(weight.requires_grad for weight in case.teacher.parameters())


@pytest.mark.parametrize("model_type", ["bart", "mbart", "t5"])
def test_a_model_without_a_teacher_passes(
    sound: Callable[[str], Case], warnings: Callable[[], list[str]], model_type: str
) -> None:
    case = sound(model_type)
    case.alone()
    case.check()
    assert warnings() == []


def test_untied_heads_pass(sound: Callable[[str], Case]) -> None:
    """T5 v1.1 has a head of its own, and so has its student."""
    case = sound("t5")
    case.change_task(teacher=Teacher(untie_head(case.teacher)))
    case.parts = replace(case.parts, student=create_student(case.teacher, 1, 1))
    case.check()


def test_bigbird_keeps_its_sparse_attention(tmp_path: Path) -> None:
    """Left to itself it turns it off for good at the first short source."""
    case = Case(tmp_path, "bigbird_pegasus", attention_type="block_sparse", block_size=2, num_random_blocks=1)
    layers: Any = architectures.encoder_layers(case.teacher)
    kinds = [type(layer.self_attn.self) for layer in layers]
    random_state = torch.random.get_rng_state()
    case.check()
    assert torch.equal(torch.random.get_rng_state(), random_state)
    for model in (case.student, case.teacher):
        assert model.get_encoder().attention_type == "block_sparse"
    assert [type(layer.self_attn.self) for layer in layers] == kinds


@families()
def test_at_full_depth_only_modules_are_copied(model_type: str) -> None:
    teacher = tiny_model(model_type, encoder_layers=3, decoder_layers=3)
    student = create_student(teacher, 1, 1)
    whole = _at_full_depth(student, teacher)
    assert architectures.depths(whole.config) == (3, 3) == architectures.depths(teacher.config)
    assert (
        architectures.depths(student.config)
        == (1, 1)
        == tuple(map(len, (architectures.encoder_layers(student), architectures.decoder_layers(student))))
    )
    known = {id(weight) for model in (student, teacher) for weight in model.parameters()}
    assert {id(weight) for weight in whole.parameters()} <= known
    modules = {id(module) for model in (student, teacher) for module in model.modules()}
    assert not modules & {id(module) for module in whole.modules()}


def test_rows_are_cut_but_for_their_ends() -> None:
    model = tiny_model("led")
    batch = tiny_batch(model, batch=1, source=90, target=30)
    cut = _cut({**batch, "row": torch.tensor([0]), "source_tokens": 90})
    assert {name: tuple(field.shape) for name, field in cut.items()} == {
        "input_ids": (1, 64),
        "attention_mask": (1, 64),
        "global_attention_mask": (1, 64),
        "labels": (1, 24),
    }
    assert cut["labels"][0].tolist() == batch["labels"][0, :22].tolist() + batch["labels"][0, -2:].tolist()
    short = tiny_batch(model, batch=1)
    assert all(torch.equal(field, short[name]) for name, field in _cut(short).items())


# -------------------------------------------------------------------------------------------------------- tokens


def test_a_student_that_starts_otherwise_in_training(case: Case) -> None:
    case.student.config.decoder_start_token_id = WORD
    word = case.parts.tokenizer.convert_ids_to_tokens(WORD)
    name = "the student cut from the teacher: training starts its decoder with"
    assert case.fault() == [
        f"{name} {WORD} '{word}', generation with 1 '</s>': set the same decoder_start_token_id in config.json and "
        "generation_config.json",
        f"{name} {WORD} '{word}', the teacher's with 1 '</s>', and feeds both the same: set decoder_start_token_id 1 "
        "in its config",
    ]


def test_a_student_that_starts_otherwise_in_generation(case: Case) -> None:
    case.student.generation_config.decoder_start_token_id = WORD
    (line,) = case.fault()
    assert f"training starts its decoder with 1 '</s>', generation with {WORD}" in line


def test_a_teacher_that_starts_otherwise_is_told_once(case: Case) -> None:
    for model in (case.teacher, case.student):
        model.config.decoder_start_token_id = WORD
    (line,) = case.fault()
    assert line.startswith(f"`teacher` {case.config.teacher}: training starts its decoder with {WORD}")


@pytest.mark.parametrize("model_type", ["bart", "t5"])
def test_a_start_that_only_the_generation_config_names(
    sound: Callable[[str], Case], warnings: Callable[[], list[str]], model_type: str
) -> None:
    case = sound(model_type)
    for model in (case.teacher, case.student):
        model.config.decoder_start_token_id = None
    case.check()
    assert warnings() == []


def test_a_decoder_that_starts_with_a_word(case: Case, warnings: Callable[[], list[str]]) -> None:
    for model in (case.teacher, case.student):
        model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = WORD
    case.check()
    (line,) = warnings()
    assert line.startswith("`teacher`") and "is no special token: check decoder_start_token_id" in line


def test_a_given_student_of_other_custom_is_not_fed_with_the_teacher(case: Case) -> None:
    """T5 starts with pad and BART with eos: in kd both would get the student's."""
    case.parts = replace(case.parts, student=other_student(case, "t5", decoder_start_token_id=0))
    case.given(path="a/t5")
    (line,) = case.fault()
    assert line.startswith(
        "`student.path` a/t5: training starts its decoder with 0 '<pad>', the teacher's with 1 '</s>"
    )
    assert line.endswith("and feeds both the same: set decoder_start_token_id 1 in its config")
    case.config = replace(case.config, method="sft")
    case.check()


def test_a_student_that_starts_with_the_last_label_cannot_be_told_otherwise(sound: Callable[[str], Case]) -> None:
    case = sound("t5")
    case.parts = replace(case.parts, student=other_student(case, "plbart", decoder_start_token_id=EOS))
    case.given(path="a/plbart")
    (line,) = case.fault()
    assert line.endswith("the teacher's with 0 '<pad>', and feeds both the same: choose another model_type")


def test_a_given_student_of_another_vocabulary(case: Case) -> None:
    size = case.teacher.config.vocab_size
    case.parts = replace(case.parts, student=other_student(case, "bart", vocab_size=size + 8))
    case.given(config="shape.yaml")
    assert case.fault() == [
        f"`student.config` shape.yaml: it chooses among {size + 8} tokens, the teacher among {size}: set vocab_size "
        f"{size} in its config"
    ]


def test_a_forced_first_token(case: Case, warnings: Callable[[], list[str]]) -> None:
    case.student.generation_config.forced_bos_token_id = WORD
    (line,) = case.fault()
    assert f"the student cut from the teacher: decoding forces {WORD} " in line and "targets begin with" in line
    assert warnings() == [
        f"the student cut from the teacher: its decoding forces {WORD} as first token, the teacher's None"
    ]


def test_a_forced_first_token_that_the_teacher_has_too_is_its_own_affair(
    case: Case, warnings: Callable[[], list[str]]
) -> None:
    for model in (case.teacher, case.student):
        model.generation_config.forced_bos_token_id = WORD
    case.check()
    (line,) = warnings()
    assert line.startswith(f"`teacher` {case.config.teacher}: decoding forces {WORD}")


@pytest.mark.parametrize("model_type", ["mbart", "m2m_100"])
def test_languages_are_where_decoding_expects_them(sound: Callable[[str], Case], model_type: str) -> None:
    case = sound(model_type)
    settings = case.student.generation_config
    name = "decoder_start_token_id" if model_type == "mbart" else "forced_bos_token_id"
    setattr(settings, name, case.parts.tokenizer.convert_tokens_to_ids(case.parts.tokenizer.src_lang))
    wrong = "generation with" if model_type == "mbart" else "decoding forces"
    assert any(f"{wrong} {getattr(settings, name)} '{case.parts.tokenizer.src_lang}'" in line for line in case.fault())


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (OTHER, "but the training targets end with 1 '</s>', so that a student never learns to stop"),
        (None, "decoding stops at no token: eos_token_id is missing"),
        ([EOS, *range(3, 64)], "which stands in the middle of the training targets"),
    ],
)
def test_an_end_that_is_not_the_targets(case: Case, ends: Any, words: str) -> None:
    case.student.generation_config.eos_token_id = ends
    (line,) = case.fault()
    assert line.startswith("the student cut from the teacher: decoding stops at") and words in line


def test_an_end_that_is_forced_as_first_token_does_not_end() -> None:
    model = tiny_model("bart", eos_token_id=EOS)
    rows = [[EOS, WORD, OTHER, WORD, EOS]]
    assert len(list(_ends(model, rows, plain_tokenizer()))) == 1
    model.generation_config.forced_bos_token_id = EOS
    assert list(_ends(model, rows, plain_tokenizer())) == []


def test_a_further_end_is_a_warning(case: Case, warnings: Callable[[], list[str]]) -> None:
    case.student.generation_config.eos_token_id = [EOS, 2]
    case.check()
    assert warnings() == ["the student cut from the teacher: it stops decoding at [1, 2], the teacher at [1]"]


def test_another_pad_token(case: Case, warnings: Callable[[], list[str]]) -> None:
    case.student.config.pad_token_id = 2
    (line,) = case.fault()
    assert line == (
        "the student cut from the teacher: its pad token is 2 '<unk>', the tokenizer's 0 '<pad>': set pad_token_id 0 "
        "in its config.json"
    )
    case.teacher.config.pad_token_id = 2
    case.check()
    (line,) = warnings()
    assert line.startswith("`teacher`")


def test_a_vocabulary_smaller_than_the_tokenizers(case: Case, warnings: Callable[[], list[str]]) -> None:
    size = case.teacher.config.vocab_size
    case.parts.tokenizer.add_tokens(["never"])
    case.check()  # no text has it
    assert warnings() == [
        f"`teacher` {case.config.teacher}: its {side} has {size} tokens, but 'never' of the tokenizer is {size}: "
        f"save it anew after resize_token_embeddings({size + 1})"
        for side in SIDES
    ]


def test_a_vocabulary_smaller_than_the_datas(tmp_path: Path) -> None:
    case = Case(tmp_path, "bart", vocab_size=20)
    assert [line.split("goes up to")[0] for line in case.fault()] == [
        f"`teacher` {case.config.teacher}: its {side} has 20 tokens, but the training data " for side in SIDES
    ]


# ------------------------------------------------------------------------------------------------------- weights


def test_an_untied_head(case: Case) -> None:
    case.student.lm_head.weight = nn.Parameter(case.student.lm_head.weight.detach().clone())
    assert case.fault() == [
        "the student cut from the teacher: its decoder embeddings and head are two, the teacher's are one matrix: "
        "recreate it with create_student"
    ]


def test_a_head_that_was_tied_on_the_way(sound: Callable[[str], Case]) -> None:
    """What loading a state dict into a model from a config does to T5 v1.1, without a word."""
    case = sound("t5")
    case.change_task(teacher=Teacher(untie_head(case.teacher)))
    case.parts = replace(case.parts, student=create_student(case.teacher, 2, 1))
    case.student.lm_head.weight = case.student.shared.weight
    tied, loss = case.fault()
    assert "its decoder embeddings and head are one matrix, the teacher's are two: recreate it with" in tied
    assert "with all of the teacher's layers its loss on a training example is" in loss
    assert loss.endswith("look at lm_head.weight")


def test_separate_embeddings(case: Case) -> None:
    encoder = case.student.get_encoder()
    encoder.embed_tokens = copy.deepcopy(encoder.embed_tokens)
    (line,) = case.fault()
    assert "its encoder and decoder embeddings are two, the teacher's are one matrix" in line


def test_other_ties_of_a_given_student_are_a_warning(case: Case, warnings: Callable[[], list[str]]) -> None:
    case.student.lm_head.weight = nn.Parameter(case.student.lm_head.weight.detach().clone())
    case.given(path="a/bart")
    case.check()
    (line,) = warnings()
    assert line.startswith("`student.path` a/bart: its decoder embeddings and head are two, the teacher's are one")


@torch.no_grad()
def test_a_layer_that_is_no_copy(case: Case) -> None:
    architectures.decoder_layers(case.student)[0].get_parameter("fc1.weight")[0, 0] += 1
    (line,) = case.fault()
    assert line == (
        "the student cut from the teacher: its decoder layer 0 is no copy of the teacher's: recreate it with "
        "create_student"
    )


@families()
@torch.no_grad()
def test_what_is_not_a_layer_differs(sound: Callable[[str], Case], model_type: str) -> None:
    case = sound(model_type)
    forward.output_head(case.student).weight.mul_(1.5)
    lines = case.fault()
    assert len(lines) == 1 and "with all of the teacher's layers its loss on a training example is" in lines[0]
    name = lines[0].rpartition("look at ")[2]
    weight = case.student.state_dict()[name]
    assert torch.equal(weight, forward.output_head(case.student).weight)


def test_a_setting_differs(case: Case, warnings: Callable[[], list[str]]) -> None:
    case.student.get_encoder().embed_tokens.embed_scale = 2.0
    (line,) = case.fault()
    assert line.endswith("look at the settings in its config")
    case.given(overrides={"scale_embedding": True})
    case.check()  # it was asked for
    (line,) = warnings()
    assert line.endswith("look at `student.overrides` scale_embedding")


@torch.no_grad()
def test_damaged_weights(case: Case) -> None:
    case.teacher.get_parameter("model.decoder.layernorm_embedding.weight").fill_(float("nan"))
    assert f"`teacher` {case.config.teacher}: its loss on a training example is nan: the weights" in case.fault()[0]


@families("fsmt", "mbart", "plbart")
def test_decoder_inputs_that_are_not_the_models_own(
    sound: Callable[[str], Case], monkeypatch: pytest.MonkeyPatch, model_type: str
) -> None:
    case = sound(model_type)
    own = forward.decoder_inputs

    def swapped(model: Any, labels: torch.Tensor) -> torch.Tensor:
        inputs = own(model, labels)
        return inputs.index_fill(1, torch.tensor([1]), OTHER) if inputs.shape[1] > 1 else inputs

    monkeypatch.setattr(forward, "decoder_inputs", swapped)
    lines = case.fault()
    assert all("by its own forward pass" in line and "this version of transformers" in line for line in lines)
    assert lines[0].startswith("`teacher`") and lines[1].startswith("the student")


@torch.no_grad()
def test_a_teacher_that_guesses_is_told_of(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """A random teacher is worse than guessing; one that knows only how frequent the tokens are is better."""
    case.check()
    assert (
        f"`teacher` {case.config.teacher}: its loss on training examples is" in caplog.text and GUESSING in caplog.text
    )
    caplog.clear()
    labels = torch.tensor([label for row in case.parts.data.encoded["train"]["labels"][:] for label in row])
    counts = torch.bincount(labels, minlength=case.teacher.config.vocab_size) + 0.1
    for model in (case.teacher, case.student):
        model.get_input_embeddings().weight.zero_()
        model.final_logits_bias.copy_(counts.log())
    case.check()
    assert GUESSING not in caplog.text


# --------------------------------------------------------------------------------------------------------- a run


def test_a_run_ends_before_its_first_step(tmp_path: Path) -> None:
    run = config(tmp_path, "bart")
    file = Path(str(run.teacher)) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"decoder_start_token_id": 5}))
    with pytest.raises(ModelError, match="training starts its decoder with 5"):
        run_config(run)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def other_student(case: Case, model_type: str, **keys: Any) -> Any:
    ids = {"pad_token_id": 0, "eos_token_id": EOS, "bos_token_id": 0, "decoder_start_token_id": EOS}
    return tiny_model(model_type, **{"vocab_size": case.teacher.config.vocab_size, **ids, **keys})
