"""Every shipped config is parsed, and its student is cut from a tiny model of the teacher's family and depths."""

from functools import cache
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from seq2seq_distill.cli.main import parse
from seq2seq_distill.config import RunConfig
from seq2seq_distill.data.tokenization.tokenizers import train_tokenizer
from seq2seq_distill.models import architectures, layer_map
from seq2seq_distill.models.fresh import fresh_student
from seq2seq_distill.shrink.student import cut_student
from tests.tiny_models import tiny_model

ROOT = Path(__file__).parents[2]
ALL = sorted((ROOT / "configs").rglob("*.yaml"))
SHAPES = [path for path in ALL if path.stem.endswith("-shape")]
RUNS = [path for path in ALL if path not in SHAPES]
RECIPES = [path for path in RUNS if path.parent.name != "demo"]
# Family and depths of the teachers named in the recipes.
TEACHERS = {
    "facebook/bart-large-xsum": ("bart", 12, 12),
    "facebook/bart-large-cnn": ("bart", 12, 12),
    "google/pegasus-xsum": ("pegasus", 16, 16),
    "google-t5/t5-base": ("t5", 12, 12),
    "Helsinki-NLP/opus-mt-en-ro": ("marian", 6, 6),
    "multi30k/teacher": ("marian", 6, 6),
    "debian-en-fr/teacher": ("marian", 6, 6),
    "debian-synopsis/teacher": ("marian", 6, 6),
    "facebook/mbart-large-en-ro": ("mbart", 12, 12),
    "facebook/nllb-200-distilled-600M": ("m2m_100", 12, 12),
}


@cache
def load(path: Path) -> RunConfig:
    return parse("run", ["--config", str(path)])


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT / "configs"))


@pytest.fixture(scope="module")
def teachers() -> dict[tuple[str, int, int], PreTrainedModel]:
    kinds = set(TEACHERS.values())
    return {kind: tiny_model(kind[0], encoder_layers=kind[1], decoder_layers=kind[2]) for kind in kinds}


def test_there_are_configs_of_every_kind():
    assert {path.parent.name for path in RUNS} == {"demo", "summarization", "translation"}
    assert SHAPES


@pytest.mark.parametrize("path", RUNS, ids=name_of)
def test_it_parses_and_holds_no_mistake(path):
    config = load(path)
    assert config.task is not None
    if path in RECIPES:
        assert config.task == path.parent.name
        assert config.folder.is_relative_to("runs")


@pytest.mark.parametrize("path", RUNS, ids=name_of)
def test_it_says_whose_targets_it_trains_on(path):
    assert load(path).targets == ("teacher" if path.stem.endswith("-6-1") else "reference")


@pytest.mark.parametrize("path", RUNS, ids=name_of)
def test_its_comment_shows_the_command_that_runs_it(path):
    assert f"#   distill --config {path.relative_to(ROOT)}\n" in path.read_text(encoding="utf-8")


def test_no_two_write_to_one_folder():
    folders = [load(path).folder for path in RUNS]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_its_student_can_be_cut_from_the_teacher(path, teachers):
    config = load(path)
    if config.teacher is None:
        assert config.student.path or config.student.config
        return
    student = cut_student(config.student, teachers[TEACHERS[config.teacher]])
    depths = architectures.depths(student.config)
    assert depths == (config.student.encoder_layers, config.student.decoder_layers)
    assert path.stem.endswith("-{}-{}".format(*depths))


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_the_weight_of_hidden_states_counts_pairs_not_layers(path):
    """H5: the published weight is 3 on a sum over the decoder's layers; on a mean it is 3 times the pairs."""
    config = load(path)
    if not config.loss.alpha_hid:
        return
    assert config.student.freeze_encoder, "with a shared encoder only the decoder has pairs"
    depth = TEACHERS[config.teacher][2]
    pairs = layer_map.supervised_pairs(layer_map.copy_layers(depth, config.student.decoder_layers), depth)
    assert config.loss.alpha_hid == 3 * len(pairs)


@pytest.mark.parametrize("path", RUNS, ids=name_of)
def test_accumulated_parts_of_a_step_are_equally_large(path):
    config = load(path)
    if config.batch.max_tokens is None:
        assert config.batch.size % config.trainer.accumulate_grad_batches == 0


@pytest.mark.parametrize("path", SHAPES, ids=name_of)
def test_a_model_can_be_made_of_a_shape(path):
    tokenizer = train_tokenizer(["a line of text"], 300)
    model = fresh_student(path, 300, tokenizer)
    assert architectures.depths(model.config)[0] == 6
