"""Students of every family: exact copies, pruned copies, overrides, fresh and loaded models."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerFast

from seq2seq_distill.data.tokenization.tokenizer_comparison import check_same_tokenizer
from seq2seq_distill.models import architectures
from seq2seq_distill.models.architectures import decoder_layers, depths, encoder_layers, stack_configs, zero_pad_row
from seq2seq_distill.models.forward import decode, decoder_inputs, encode, head, output_head
from seq2seq_distill.models.fresh import fresh_student
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.shrink.student import create_student
from seq2seq_distill.utils.errors import ModelError
from tests.tiny_models import FAMILIES, every_family, tiny_batch, tiny_config_keys, tiny_model, untie_head

T5_KIN = ["t5", "mt5", "umt5", "longt5"]


@torch.no_grad()
def logits(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    return head(model, decode(model, batch, encode(model, batch), decoder_inputs(model, batch["labels"])))


def reloaded(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    model.save_pretrained(folder)
    return load_pretrained(folder)


def layer_names(model: PreTrainedModel) -> tuple[str, ...]:
    names = {id(module): name for name, module in model.named_modules()}
    return tuple(names[id(layers)] + "." for layers in (encoder_layers(model), decoder_layers(model)))


@every_family
def test_a_student_of_all_layers_has_the_teachers_logits(model_type: str) -> None:
    teacher = tiny_model(model_type)
    batch = tiny_batch(teacher)
    student = create_student(teacher, 2, 2)
    assert torch.equal(logits(student, batch), logits(teacher, batch))
    assert student.config.distilled_encoder_layers == [0, 1] == student.config.distilled_decoder_layers


@every_family
def test_a_pruned_student_is_the_teacher_without_some_layers(model_type: str) -> None:
    teacher = tiny_model(model_type, encoder_layers=4, decoder_layers=5).requires_grad_(False)
    teacher.generation_config.num_beams = 3
    student = create_student(teacher, 2, 3)
    assert depths(student.config) == (len(encoder_layers(student)), len(decoder_layers(student))) == (2, 3)
    assert depths(teacher.config) == (4, 5)
    theirs = teacher.state_dict()
    for name, weight in student.state_dict().items():
        if not name.startswith(layer_names(student)):
            assert torch.equal(weight, theirs[name]), name
    for layers, originals, ids in (
        (encoder_layers(student), encoder_layers(teacher), (0, 3)),
        (decoder_layers(student), decoder_layers(teacher), (0, 2, 4)),
    ):
        for layer, original in zip(layers, (originals[i] for i in ids), strict=True):
            for ours, source in zip(layer.parameters(), original.parameters(), strict=True):
                assert torch.equal(ours, source) and ours is not source
    assert student.generation_config.num_beams == 3
    assert student.generation_config is not teacher.generation_config
    born = dict(tiny_model(model_type).named_parameters())
    for name, weight in student.named_parameters():
        if name in born:
            assert weight.requires_grad == born[name].requires_grad, name


@every_family
def test_ties_are_kept(model_type: str) -> None:
    def groups(model: PreTrainedModel) -> set[frozenset[str]]:
        names: dict[int, set[str]] = {}
        for name, weight in model.named_parameters(remove_duplicate=False):
            names.setdefault(weight.data_ptr(), set()).add(name)
        return {frozenset(group) for group in names.values() if len(group) > 1}

    teacher = tiny_model(model_type)
    student = create_student(teacher, 1, 1)
    assert groups(student) == groups(teacher)
    shared = {weight.data_ptr() for weight in student.parameters()}
    assert shared.isdisjoint(weight.data_ptr() for weight in teacher.parameters())


@every_family
def test_a_saved_student_comes_back_the_same(model_type: str, tmp_path: Path) -> None:
    teacher = tiny_model(model_type, encoder_layers=4, decoder_layers=4)
    batch = tiny_batch(teacher)
    student = create_student(teacher, encoder_layer_ids=[0, 3], decoder_layer_ids=[1, 2])
    again = reloaded(student, tmp_path)
    assert torch.equal(logits(again, batch), logits(student, batch))
    assert again.config.distilled_encoder_layers == [0, 3]
    assert again.config.distilled_decoder_layers == [1, 2]
    assert depths(again.config) == (2, 2)


@every_family
@torch.no_grad()
def test_cached_greedy_generation_follows_the_students_logits(model_type: str) -> None:
    """`layer_idx` left at the teacher's numbers makes the cache fail or mix layers."""
    teacher = tiny_model(model_type, encoder_layers=3, decoder_layers=5)
    student: Any = create_student(teacher, encoder_layer_ids=[1], decoder_layer_ids=[1, 3, 4])
    config = stack_configs(student.config)[1]
    batch = tiny_batch(student)
    source = {name: field for name, field in batch.items() if name != "labels"}
    pad, eos = config.pad_token_id, config.eos_token_id  # some families mask pad as a decoder input
    out = student.generate(**source, min_new_tokens=6, max_new_tokens=6, num_beams=1, suppress_tokens=[pad])
    scores = head(student, decode(student, batch, encode(student, batch), out[:, :-1]))
    scores[..., [pad, eos]] = -torch.inf
    assert out.shape == (3, 7)
    if model_type == "prophetnet":
        return  # its logits depend on the length of the target, in transformers and so here
    assert torch.equal(scores.argmax(-1)[:, :-1], out[:, 1:-1])  # the last token may be a forced eos


def test_defaults_are_the_whole_encoder_and_a_quarter_of_the_decoder() -> None:
    """H14: the defaults were 12 and 12 for any teacher."""
    teacher = tiny_model("bart", encoder_layers=3, decoder_layers=5)
    assert depths(create_student(teacher).config) == (3, 2)
    assert create_student(teacher).config.distilled_decoder_layers == [0, 4]
    first = create_student(teacher, 2, 2, choice="first")
    assert first.config.distilled_encoder_layers == first.config.distilled_decoder_layers == [0, 1]


def test_a_student_of_a_student_names_the_layers_of_its_own_teacher() -> None:
    student = create_student(tiny_model("bart", encoder_layers=4, decoder_layers=4), 3, 3)
    assert create_student(student, 2, 1).config.distilled_encoder_layers == [0, 2]


def test_impossible_depths_and_ids_name_their_flag() -> None:
    teacher = tiny_model("bart")
    with pytest.raises(ModelError, match=r"^`student.decoder_layers` 13 exceeds the teacher's 2 layers: choose"):
        create_student(teacher, 1, 13)
    with pytest.raises(ModelError, match=r"^`student.encoder_layers` 0 is less"):
        create_student(teacher, 0, choice="first")
    with pytest.raises(ModelError, match=r"^`student.encoder_layer_ids` 0 2: the teacher has no layer 2"):
        create_student(teacher, encoder_layer_ids=[0, 2])
    with pytest.raises(ModelError, match=r"`student.decoder_layers` 2 contradicts `student.decoder_layer_ids`"):
        create_student(teacher, 1, 2, decoder_layer_ids=[0])


# ------------------------------------------------------------------------------------------- heads and biases


@pytest.mark.parametrize("model_type", T5_KIN)
def test_untied_t5_heads_stay_apart(model_type: str, tmp_path: Path) -> None:
    """Configs of T5 v1.1, Flan and mT5 claim tied weights; tying them anew destroys the head."""
    teacher: Any = untie_head(tiny_model(model_type, encoder_layers=3, decoder_layers=3, tie_word_embeddings=False))
    batch = tiny_batch(teacher)
    assert torch.equal(logits(create_student(teacher, 3, 3), batch), logits(teacher, batch))
    student: Any = create_student(teacher, 2, 2, overrides={"dropout": 0.0})
    assert torch.equal(student.lm_head.weight, teacher.lm_head.weight)
    assert not torch.equal(student.lm_head.weight, student.shared.weight)
    again = reloaded(student, tmp_path)
    assert torch.equal(logits(again, batch), logits(student, batch))
    assert output_head(again).scale == output_head(student).scale


@pytest.mark.parametrize("model_type", [*T5_KIN, "longt5-tglobal"])
def test_position_zero_of_t5_keeps_the_relative_position_bias(model_type: str, tmp_path: Path) -> None:
    """H15: T5's block 0 holds the relative position bias of all blocks."""
    kind: Any = {"encoder_attention_type": "transient-global"} if model_type == "longt5-tglobal" else {}
    teacher = tiny_model(model_type.split("-")[0], encoder_layers=3, decoder_layers=3, **kind)
    batch = tiny_batch(teacher)
    student = create_student(teacher, encoder_layer_ids=[1, 2], decoder_layer_ids=[2])
    if model_type != "umt5":  # each UMT5 block has a bias of its own
        for name in ("encoder", "decoder"):
            ours, theirs = (
                {
                    key.partition("SelfAttention")[2]: weight
                    for key, weight in getattr(model, name).block[0].named_parameters()
                    if "relative_attention_bias" in key
                }
                for model in (student, teacher)
            )
            assert ours and ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert torch.equal(logits(reloaded(student, tmp_path), batch), logits(student, batch))


def test_a_marian_pad_row_of_zeros_stays_and_half_precision_leaves_no_trace(tmp_path: Path) -> None:
    teacher = tiny_model("marian").half()
    student = create_student(teacher, 1, 1)
    assert zero_pad_row(student) is student.lm_head.weight
    batch = tiny_batch(student)
    assert torch.equal(logits(reloaded(student, tmp_path), batch), logits(student, batch))


@every_family
def test_students_of_half_precision_teachers_are_float32(model_type: str, tmp_path: Path) -> None:
    student = create_student(tiny_model(model_type).bfloat16(), 1, 1)
    floats = [weight for weight in student.state_dict().values() if weight.is_floating_point()]
    assert {weight.dtype for weight in floats} == {torch.float32}
    assert {part.dtype for part in (student.config, *stack_configs(student.config))} == {torch.float32}


# ----------------------------------------------------------------------------------------- per-layer settings


def test_led_windows_and_t5gemma_layer_types_are_cut_with_the_layers() -> None:
    led = tiny_model("led", encoder_layers=3, attention_window=[4, 8, 12])
    student = create_student(led, encoder_layer_ids=[0, 2])
    assert student.config.attention_window == [4, 12]
    gemma = tiny_model("t5gemma", encoder_layers=4, decoder_layers=4)
    student = create_student(gemma, encoder_layer_ids=[1, 3], decoder_layer_ids=[0, 1, 3])
    assert student.config.encoder.layer_types == ["full_attention"] * 2
    assert student.config.decoder.layer_types == ["sliding_attention", "full_attention", "full_attention"]
    assert gemma.config.encoder.layer_types == ["sliding_attention", "full_attention"] * 2


def test_mvp_prompts_are_cut_with_the_layers(tmp_path: Path) -> None:
    keys = {"use_prompt": True, "prompt_length": 3, "prompt_mid_dim": 8}
    teacher = tiny_model("mvp", encoder_layers=3, decoder_layers=3, **keys)
    batch = tiny_batch(teacher)
    assert torch.equal(logits(create_student(teacher, 3, 3), batch), logits(teacher, batch))
    student = create_student(teacher, encoder_layer_ids=[0, 2], decoder_layer_ids=[1])
    ids = torch.arange(3)
    ours, theirs = (model.get_decoder().cross_attn_prompt(ids) for model in (student, teacher))
    assert len(ours) == 1 and torch.equal(ours[0], theirs[1])
    assert torch.equal(logits(reloaded(student, tmp_path), batch), logits(student, batch))


def test_pegasus_x_and_bigbird_settings_follow_the_new_position(tmp_path: Path) -> None:
    """Pegasus-X staggers every other layer, BigBird seeds each layer's random blocks, both by position."""
    for model_type, keys in (
        ("pegasus_x", {"block_size": 4}),
        ("bigbird_pegasus", {"attention_type": "block_sparse", "block_size": 2, "num_random_blocks": 1}),
    ):
        teacher = tiny_model(model_type, encoder_layers=4, **keys)
        encode(teacher, tiny_batch(teacher, 2, 6))
        student = create_student(teacher, encoder_layer_ids=[1, 2])
        batch = tiny_batch(teacher, 2, 40)
        assert torch.equal(logits(reloaded(student, tmp_path), batch), logits(student, batch))


# -------------------------------------------------------------------------------------------------- overrides


def random_passes(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    model.train()
    batch = tiny_batch(model)
    torch.manual_seed(1)
    return logits(model, batch), logits(model, batch)


@every_family
def test_dropout_overrides_reach_the_built_modules(model_type: str) -> None:
    """H12: dropout options edited the config of a built model, without effect, and 0.0 counted as unset."""
    teacher = tiny_model(model_type)
    config = teacher.config.to_dict()
    keys = ("attention_dropout", "activation_dropout")
    off = {key: 0.0 for key in (*keys, "encoder_layerdrop", "decoder_layerdrop") if key in config}
    first, second = random_passes(create_student(teacher, 1, 1, overrides={"dropout": 0.0, **off}))
    assert torch.equal(first, second)
    first, second = random_passes(create_student(teacher, 1, 1, overrides={"dropout": 0.3, **off}))
    assert not torch.equal(first, second)
    for key in off.keys() & set(keys):
        first, second = random_passes(create_student(teacher, 1, 1, overrides={**off, "dropout": 0.0, key: 0.4}))
        assert not torch.equal(first, second), key


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize(
    "model_type", [name for name in FAMILIES if hasattr(AutoConfig.for_model(name), "encoder_layerdrop")]
)
def test_layerdrop_overrides_reach_the_built_modules(model_type: str, side: str) -> None:
    overrides = {
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        f"{side}_layerdrop": 0.5,
    }
    teacher = tiny_model(model_type)
    if (model_type, side) == ("pegasus_x", "encoder"):
        with pytest.raises(ModelError, match="encoder_layerdrop`: transformers' pegasus_x does not support it"):
            create_student(teacher, overrides=overrides)
        return
    student = create_student(teacher, 2, 2, overrides=overrides).train()
    batch = tiny_batch(student)
    torch.manual_seed(0)
    passes = [logits(student, batch) for _ in range(8)]
    assert any(not torch.equal(passes[0], other) for other in passes[1:])


def test_an_override_of_none_leaves_the_key_alone() -> None:
    assert create_student(tiny_model("bart", dropout=0.2), overrides={"dropout": None}).config.dropout == 0.2


@pytest.mark.parametrize(
    ("model_type", "overrides", "message"),
    [
        ("t5", {"attention_dropout": 0.1}, "attention_dropout is not a key of a t5 config that can be overridden"),
        ("bart", {"dropuot": 0.1}, "dropuot is not a key .* did you mean dropout"),
        ("bart", {"length_penalty": 0.5}, "length_penalty is not a key"),
        ("bart", {"save_pretrained": 1}, "save_pretrained is not a key"),
        ("t5", {"tie_word_embeddings": False}, "tie_word_embeddings is not a key"),
        ("bart", {"return_dict": False}, "return_dict is not a key"),
        ("marian", {"pad_token_id": 3}, "pad_token_id: a student shares its teacher's tokenizer"),
        ("bart", {"dropout": 1.5}, "dropout 1.5 is not a probability: choose a value from 0 to below 1"),
        ("bart", {"dropout": "much"}, "dropout 'much' is not a probability"),
        ("bart", {"vocab_size": 99}, "vocab_size 99 would change the shape"),
        ("bart", {"d_model": 32}, "d_model 32 would change the shape"),
        ("prophetnet", {"hidden_size": 32}, "hidden_size 32 would change the shape"),
        ("t5gemma", {"vocab_size": 99}, "vocab_size 99 would change the shape"),
        ("bart", {"d_model": 15}, "d_model 15 is not accepted"),
        ("bart", {"decoder_layers": 1}, "decoder_layers: set the depth with `student.encoder_layers`"),
    ],
)
def test_overrides_that_cannot_be_are_refused(model_type: str, overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        create_student(tiny_model(model_type), overrides=overrides)


def test_the_teacher_is_left_as_it_is() -> None:
    for model_type in ("bart", "t5gemma", "led"):
        teacher = tiny_model(model_type)
        config, weights = teacher.config.to_dict(), copy.deepcopy(teacher.state_dict())
        create_student(teacher, 1, 1, overrides={"dropout": 0.3})
        assert teacher.config.to_dict() == config
        assert all(torch.equal(weight, weights[name]) for name, weight in teacher.state_dict().items())


@every_family
def test_making_a_student_draws_no_random_numbers(model_type: str) -> None:
    teacher = tiny_model(model_type)
    state = torch.get_rng_state()
    create_student(teacher, 1, 1, overrides={"dropout": 0.3})
    assert torch.equal(torch.get_rng_state(), state)


# ------------------------------------------------------------------------------------------- fresh and loaded


def tokenizer(words: str = "the quick brown fox", bos: str | None = "<s>") -> PreTrainedTokenizerFast:
    special = ["<pad>", "<unk>", "</s>", "<s>"]
    vocab = {token: i for i, token in enumerate([*special, *words.split()])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", bos_token=bos
    )


@every_family
def test_fresh_models_start_decoding_by_the_familys_custom(model_type: str, tmp_path: Path) -> None:
    keys = {key: value for key, value in tiny_config_keys(model_type).items() if not key.endswith("token_id")}
    keys = {key: value for key, value in keys.items() if "vocab_size" not in key}
    model: Any = fresh_student({"model_type": model_type, **keys}, 64, tokenizer())
    config = stack_configs(model.config)[1]
    assert (config.pad_token_id, config.eos_token_id) == (0, 2)
    start = {"pad": 0, "eos": 2, "wrap": 2, "bos": 3}[architectures.ARCHITECTURES[model_type].start]
    labels = torch.tensor([[5, 6, 2], [7, 2, -100]])
    assert decoder_inputs(model, labels)[:, 0].tolist() == [start, start]
    batch = {**tiny_batch(model, 2), "labels": labels}
    assert torch.equal(logits(reloaded(model, tmp_path), batch), logits(model, batch))
    source = {name: field for name, field in batch.items() if name != "labels"}
    assert model.generate(**source, max_new_tokens=3, num_beams=1)[:, 0].tolist() == [start, start]


def test_fresh_models_without_bos_start_with_eos_or_pad() -> None:
    keys = tiny_config_keys("blenderbot")
    model = fresh_student({"model_type": "blenderbot", **keys}, 64, tokenizer(bos=None))
    assert model.config.bos_token_id is None and model.config.decoder_start_token_id == 2


def test_configs_come_from_folder_json_and_yaml(tmp_path: Path) -> None:
    keys = {"model_type": "bart", **tiny_config_keys("bart", decoder_start_token_id=3)}
    (tmp_path / "model.yaml").write_text("\n".join(f"{key}: {value}" for key, value in keys.items()))
    (tmp_path / "config.json").write_text(json.dumps(keys))
    for source in (tmp_path, tmp_path / "config.json", str(tmp_path / "model.yaml"), keys):
        model = fresh_student(source, 99, tokenizer())
        assert model.config.decoder_start_token_id == 3 and model.config.vocab_size == 64
        assert model.dtype == torch.float32


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"d_model": 16}, r"^`student.config` does not set model_type: choose one of bart, "),
        (
            {"model_type": "nllb-moe"},
            r"^`student.config`: model_type 'nllb-moe' is not supported: its layers",
        ),
        (
            {"model_type": "bart", "d_modle": 16},
            r"^`student.config` d_modle is not a key .* did you mean d_model",
        ),
        ({"model_type": "bart", "d_model": 15}, r"^`student.config`: no bart model can be built from it"),
        (
            {"model_type": "bart", "d_model": "wide"},
            r"no bart model can be built from it .*'d_model' with value",
        ),
        ({"model_type": "t5gemma", "encoder": {"width": 3}}, r"^`student.config` encoder width is not a key"),
        ("nowhere/config.json", r"^`student.config` nowhere/config.json: no such file"),
    ],
)
def test_bad_configs_are_told_in_one_line(config: object, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        fresh_student(config, 64, tokenizer())  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused() -> None:
    with pytest.raises(ModelError, match="vocab_size 5 is smaller than the tokenizer's 8"):
        fresh_student({"model_type": "bart", **tiny_config_keys("bart"), "vocab_size": 5}, 64, tokenizer())


def test_same_tokenizer_looks_beyond_the_size() -> None:
    """Two vocabularies of one size are not one tokenizer."""
    check_same_tokenizer(tokenizer(), tokenizer())
    with pytest.raises(ModelError, match=r"^`student.path`: its tokenizer differs .*: in .* token \d is"):
        check_same_tokenizer(tokenizer("the brown quick fox"), tokenizer())
    with pytest.raises(ModelError, match="the id of 'fax' is 7, the teacher's None"):
        check_same_tokenizer(tokenizer("the quick brown fax"), tokenizer("the quick brown fix"))
    with pytest.raises(ModelError, match="bos is None, the teacher's 3"):
        check_same_tokenizer(tokenizer(bos=None), tokenizer())


def test_loading_errors_are_one_line_that_names_the_flag(tmp_path: Path) -> None:
    def told(path: Path | str, message: str) -> None:
        with pytest.raises(ModelError, match=message) as caught:
            load_pretrained(path, field="teacher")
        assert str(caught.value).startswith(f"`teacher` {path}: ") and "\n" not in str(caught.value)

    told(tmp_path / "nowhere", "no such folder")
    told("nobody/nothing-of-this-name", "no such folder, and it cannot be loaded from the Hub")
    told(tmp_path, "the folder has no config.json")
    (tmp_path / "config.json").write_text("{")
    told(tmp_path, "its config.json cannot be read")
    AutoConfig.for_model("gpt2").save_pretrained(tmp_path)
    told(tmp_path, "'gpt2' is not supported")
    tiny_model("bart").config.save_pretrained(tmp_path)
    told(tmp_path, "the model cannot be loaded")
    tiny_model("bart").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a tensor")
    told(tmp_path, "the model cannot be loaded")
    model = tiny_model("bart")
    weights = {name: weight for name, weight in model.state_dict().items() if "decoder.layers.1." not in name}
    model.save_pretrained(tmp_path, state_dict=weights)
    told(tmp_path, "the checkpoint lacks 26 weights, for example model.decoder.layers.1")


def test_a_loaded_student_has_the_asked_dtype(tmp_path: Path) -> None:
    tiny_model("bart").half().save_pretrained(tmp_path)
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path).dtype == torch.float16
    assert load_pretrained(tmp_path).dtype == torch.float32
    assert load_pretrained(str(tmp_path), torch.bfloat16).dtype == torch.bfloat16
