"""The configuration: defaults, and every mistake that can be seen without loading anything."""

import inspect
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from pytorch_lightning import Trainer

from seq2seq_distill.commands.average.options import AverageConfig
from seq2seq_distill.commands.convert.options import ConvertConfig
from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.commands.export.options import ExportConfig
from seq2seq_distill.commands.student.options import StudentOnlyConfig
from seq2seq_distill.commands.trim.options import TrimOnlyConfig
from seq2seq_distill.config import (
    BatchConfig,
    DivergenceName,
    EncodeConfig,
    EnsembleConfig,
    EvalConfig,
    FeatureLossConfig,
    LabelConfig,
    LossConfig,
    OptimConfig,
    RunConfig,
    StudentConfig,
    TaskConfig,
    TrainerConfig,
    TrimConfig,
    validate,
)
from seq2seq_distill.config.conflicts import REFUSED_TRAINER_OPTIONS, TRAINER_EXTRAS
from seq2seq_distill.config.decoding import DecodingOptions
from seq2seq_distill.config.tasks import TASKS
from seq2seq_distill.utils.errors import ConfigError

GROUPS = {field.name: field.default_factory for field in fields(RunConfig) if is_dataclass(field.default_factory)}
CONFIGS = (RunConfig, StudentOnlyConfig, TrimOnlyConfig, AverageConfig, ConvertConfig)


def run(**changes: Any) -> RunConfig:
    """A config without a mistake but for the changes: `run(task=None)`, `run(**{"optim.lr": 0})`."""
    config = RunConfig(task="translation", teacher="t", data=["d"])
    for name, value in changes.items():
        config = changed(config, name, value)
    return config


def changed(config: Any, name: str, value: Any) -> Any:
    """With another value of an option, which may be of a group: `loss.schedule.strength`."""
    group, _, rest = name.partition(".")
    return replace(config, **{group: changed(getattr(config, group), rest, value) if rest else value})


def mistakes(config: Any) -> list[str]:
    """Each mistake in a line, as a Python caller reads it."""
    try:
        validate(config)
    except ConfigError as error:
        return str(error).split("\n")
    return []


class TestDefaults:
    def test_are_the_field_s_good_ones(self):
        """H19: the predecessor really ran 1000 epochs without clipping, because two flags shared a destination."""
        config = RunConfig()
        loss = config.loss.resolved()
        assert (loss.alpha_ce, loss.alpha_mlm, loss.alpha_hid, loss.temperature) == (0.8, 0.2, 0.0, 2.0)
        assert (config.trainer.gradient_clip_val, config.trainer.max_epochs) == (1.0, 3)
        assert (config.optim.name, config.optim.lr, config.optim.eps) == ("adamw", 3e-4, 1e-8)
        assert config.batch.size == 32
        assert (config.encode.max_source_length, config.encode.max_target_length) == (1024, 56)
        assert (config.eval.max_target_length, config.eval.n_val) == (142, 500)
        assert (config.method, config.resume, config.logger) == ("kd", "auto", ["tensorboard"])

    def test_hold_no_mistake(self):
        for task in TASKS:
            assert mistakes(RunConfig(task=task)) == []
        assert mistakes(run()) == []

    @pytest.mark.parametrize(("task", "monitor"), [(name, task.monitor) for name, task in TASKS.items()])
    def test_monitor_follows_the_task(self, task, monitor):
        assert run(task=task).monitor == monitor
        assert monitor in TASKS[task].monitors
        assert run(task=task, **{"eval.monitor": "loss"}).monitor == "loss"

    def test_output_folder_follows_the_task(self):
        assert run().folder == Path("runs/translation")
        assert run(output_dir="elsewhere").folder == Path("elsewhere")

    @pytest.mark.parametrize("kind", [*CONFIGS, *GROUPS.values()])
    def test_are_frozen(self, kind):
        with pytest.raises(FrozenInstanceError):
            setattr(kind(), fields(kind)[0].name, 1)

    def test_are_not_shared_between_configs(self):
        RunConfig().student.overrides["dropout"] = 0.5
        RunConfig().logger.append("csv")
        assert RunConfig().student.overrides == {}
        assert RunConfig().logger == ["tensorboard"]


TOO_SMALL = {
    "student.encoder_layers": (0, 1),
    "student.decoder_layers": (-1, 1),
    "encode.max_source_length": (1, 2),
    "encode.max_target_length": (1, 2),
    "encode.n_train": (0, 1),
    "batch.size": (0, 1),
    "batch.max_tokens": (0, 1),
    "batch.workers": (-1, 0),
    "loss.alpha_ce": (-0.1, 0),
    "loss.alpha_mlm": (-0.1, 0),
    "loss.alpha_hid": (-3, 0),
    "loss.alpha_chunk": (-1, 0),
    "loss.schedule.strength": (-0.5, 0),
    "loss.schedule.warmup_steps": (-1, 0),
    "optim.warmup_steps": (-1, 0),
    "optim.weight_decay": (-0.01, 0),
    "eval.beams": (0, 1),
    "eval.max_target_length": (0, 1),
    "eval.batch_size": (0, 1),
    "eval.n_val": (0, 1),
    "eval.n_test": (0, 1),
    "eval.n_speed": (-1, 0),
    "eval.patience": (0, 1),
    "eval.save_top_k": (-2, -1),
    "trainer.accumulate_grad_batches": (0, 1),
    "trainer.log_every_n_steps": (-1, 0),
    "trainer.num_nodes": (0, 1),
}
HIGHEST = {"batch.workers": 1024, "eval.beams": 1000, "trainer.accumulate_grad_batches": 10_000}
ABOVE_ZERO = (
    "loss.temperature",
    "loss.schedule.temperature_end",
    "loss.schedule.exponent",
    "optim.lr",
    "optim.encoder_lr",
    "optim.projection_lr",
    "optim.eps",
    "trainer.val_check_interval",
    "trainer.limit_train_batches",
    "trainer.gradient_clip_val",
)
SHARES = (
    "student.dropout",
    "student.attention_dropout",
    "student.encoder_layerdrop",
    "student.decoder_layerdrop",
    "loss.label_smoothing",
    "loss.skew",
)


class TestRanges:
    @pytest.mark.parametrize("name", TOO_SMALL)
    def test_too_small(self, name):
        value, least = TOO_SMALL[name]
        allowed = f"{least} to {HIGHEST[name]}" if name in HIGHEST else f"{least} or more"
        assert mistakes(run(**{name: value})) == [f"`{name}` {value} is too small: choose {allowed}"]
        assert mistakes(run(**{name: least})) == []

    def test_a_vocabulary_holds_all_bytes(self):
        changes = {"teacher": None, "student.config": "c"}
        line = "`student.vocab_size` 259 is too small: choose 260 or more"
        assert mistakes(run(**changes, **{"student.vocab_size": 259})) == [line]
        assert mistakes(run(**changes, **{"student.vocab_size": 260})) == []

    @pytest.mark.parametrize("value", [0, -1.0])
    @pytest.mark.parametrize("name", ABOVE_ZERO)
    def test_not_above_zero(self, name, value):
        assert mistakes(run(**{name: value})) == [f"`{name}` {value} is too small: choose more than 0"]

    @pytest.mark.parametrize("value", [-0.1, 1, 1.5])
    @pytest.mark.parametrize("name", SHARES)
    def test_no_share(self, name, value):
        wrong = "small" if value < 0 else "large"
        line = f"`{name}` {value} is too {wrong}: choose at least 0 and less than 1"
        assert mistakes(run(**{name: value})) == [line]

    @pytest.mark.parametrize("name", SHARES)
    def test_dropout_of_zero_is_a_value_and_not_unset(self, name):
        """H12: ``dropout` 0.0` counted as unset."""
        config = run(**{name: 0.0})
        assert mistakes(config) == []
        group, key = name.split(".")
        assert getattr(getattr(config, group), key) is not None

    def test_null_switches_clipping_off_and_takes_all_rows(self):
        assert mistakes(run(**{"trainer.gradient_clip_val": None, "eval.n_val": None})) == []

    def test_no_epochs(self):
        line = "`trainer.max_epochs` 0 is too small: choose more than 0, or set `trainer.max_steps`"
        assert mistakes(run(**{"trainer.max_epochs": 0})) == [line]
        assert mistakes(run(**{"trainer.max_epochs": 0, "trainer.max_steps": 1})) == []
        assert mistakes(run(**{"trainer.max_epochs": 0.25})) == []

    @pytest.mark.parametrize("name", ["trainer.val_check_interval", "trainer.limit_train_batches"])
    def test_neither_share_nor_steps(self, name):
        line = (
            f"`{name}` 1.5 is neither a share nor a whole number of steps: choose a share up to 1.0, or 2, 3, ... steps"
        )
        assert mistakes(run(**{name: 1.5})) == [line]
        for value in (0.5, 1.0, 2, 100.0):
            assert mistakes(run(**{name: value})) == []

    def test_betas_and_seed(self):
        assert mistakes(run(**{"optim.betas": (0.9, 1.0)})) == [
            "`optim.betas` 0.9 1.0: choose at least 0 and less than 1 for every value"
        ]
        assert mistakes(run(seed=-1)) == ["`seed` -1 is too small: choose 0 to 4294967295"]

    @pytest.mark.parametrize("beta", [0.0, 1.0])
    def test_beta_of_jsd(self, beta):
        wrong = "small" if beta == 0 else "large"
        line = f"`loss.beta` {beta} is too {wrong}: choose more than 0 and less than 1"
        assert mistakes(run(**{"loss.beta": beta})) == [line]

    @pytest.mark.parametrize("name", ["loss.alpha_hid", "loss.on_policy"])
    def test_nothing_is_learned_from_a_teacher_that_there_is_not(self, name):
        """They were passed over without a word."""
        alone = {name: 0.5, "teacher": None, "student.path": "s"}
        assert mistakes(run(**alone)) == [f"`{name}` 0.5 needs a teacher: name one, or leave the option out"]

    def test_divergences(self):
        assert mistakes(run(**{"loss.divergence": {"forward_kl": 1.0, "reverse_kl": 0.5}})) == []
        choices = ", ".join(get_args(DivergenceName))
        for wrong in ("kl", {"kl": 1.0}):
            line = f"`loss.divergence` {wrong}: kl is unknown: choose one of {choices}, or map some of these to weights"
            assert mistakes(run(**{"loss.divergence": wrong})) == [line]
        for weights in ({}, {"jsd": 0.0}, {"jsd": 1.0, "mse": -1.0}):
            line = f"`loss.divergence` {weights}: give at least one, each with a weight above 0"
            assert mistakes(run(**{"loss.divergence": weights})) == [line]

    @pytest.mark.parametrize("ends", [(2.0, 1.0), (0.0, 1.0)])
    def test_range_of_temperatures(self, ends):
        line = f"`loss.schedule.temperature_range` {ends[0]} {ends[1]}: give two numbers above 0, the smaller one first"
        assert mistakes(run(**{"loss.schedule.temperature_range": ends})) == [line]

    def test_weights_of_data(self):
        for weights, line in (
            ([-1.0, 1.0], "`data_weights` -1.0 1.0: choose 0 to 1000 for every value"),
            ([0.0, 0.0], "`data_weights` 0.0 0.0: no training data is left: set at least one weight above 0"),
        ):
            assert mistakes(run(data=["a", "b"], data_weights=weights)) == [line]
        assert mistakes(run(data=["a", "b"], data_weights=[1.0, 0.0])) == []


class TestSources:
    def test_no_task(self):
        assert mistakes(run(task=None)) == ["`task` is missing: choose summarization or translation"]

    def test_a_teacher_alone(self):
        assert mistakes(run(data=None)) == ["`teacher` t is given without `data` or `tasks`: name the data to train on"]

    def test_data_alone(self):
        assert mistakes(run(teacher=None, data=["a", "b"])) == [
            "`data` a b is given without `teacher`: name one, "
            "or train without a teacher by `student.path` or `student.config`"
        ]
        assert mistakes(run(teacher=None, **{"student.path": "p"})) == []
        assert mistakes(run(teacher=None, **{"student.config": "c"})) == []

    @pytest.mark.parametrize(
        ("data", "shown"), [(["a", "b", "c"], "a b c"), (["a"], "a"), (None, "(none)")], ids=["few", "many", "none"]
    )
    def test_weights_that_do_not_fit_the_data(self, data, shown):
        config = run(teacher=None if data is None else "t", data=data, data_weights=[1.0, 0.5])
        line = f"`data_weights` 1.0 0.5 does not fit `data` {shown}: give one weight for each source"
        assert mistakes(config) == [line]
        assert mistakes(run(data=["a", "b"], data_weights=[1.0, 0.5])) == []

    def test_two_students(self):
        changes = {"student.path": "p", "student.config": "c"}
        assert mistakes(run(**changes)) == ["`student.path` p and `student.config` c both name a student: choose one"]

    def test_a_vocabulary_without_a_fresh_model(self):
        line = "`student.vocab_size` 300 needs a model with fresh weights: add `student.config`"
        assert mistakes(run(teacher=None, **{"student.path": "p", "student.vocab_size": 300})) == [line]

    def test_a_vocabulary_beside_a_teacher(self):
        line = "`student.vocab_size` 300: a student shares its teacher's tokenizer; leave it out"
        assert mistakes(run(**{"student.config": "c", "student.vocab_size": 300})) == [line]


class TestConflicts:
    def test_nothing_to_learn(self):
        nothing = {"loss.alpha_ce": 0.0, "loss.alpha_mlm": 0.0}
        line = "`loss.alpha_ce` 0, `loss.alpha_mlm` 0 and `loss.alpha_hid` 0 leave no loss to train with: raise one"
        assert mistakes(run(**nothing)) == [line]
        assert mistakes(run(method="sft", **nothing)) == []
        assert mistakes(run(**nothing, **{"loss.alpha_hid": 1.0})) == []

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            (
                {"loss.divergence": {"jsd": 1.0, "mse": 1.0}},
                "`loss.divergence` mse needs logits, which `teacher_cache` c does not hold: "
                "choose another, or leave the cache out",
            ),
            (
                {"loss.divergence": {"forward_kl": 1.0, "jsd": 1.0}, "cache.draws": 9},
                "`loss.divergence` forward_kl jsd cannot be estimated from the sampled tokens of `cache.draws` 9: "
                "choose forward_kl, or use `cache.top_k`",
            ),
            (
                {"loss.schedule.temperature": "cwsm"},
                "`loss.schedule.temperature` cwsm needs more temperatures than the one that `teacher_cache` c holds: "
                "choose constant, or leave the cache out",
            ),
        ],
    )
    def test_what_a_cache_cannot_give(self, changes, line):
        assert mistakes(run(**changes)) == []
        assert mistakes(run(teacher_cache="c", **changes)) == [line]

    def test_what_a_cache_can_give(self):
        for divergence in get_args(DivergenceName)[:-1]:
            assert mistakes(run(teacher_cache="c", **{"loss.divergence": divergence})) == []
        assert mistakes(run(teacher_cache="c", **{"loss.divergence": {"forward_kl": 2.0}, "cache.draws": 9})) == []
        assert mistakes(run(teacher_cache="c", **{"loss.schedule.alpha_ce": "linear_decay"})) == []

    def test_a_temperature_out_of_the_range_that_it_must_keep(self):
        changes = {"loss.temperature": 0.5, "loss.schedule.temperature_range": (1.0, 4.0)}
        assert mistakes(run(**changes)) == []
        assert mistakes(run(**changes, **{"loss.schedule.temperature": "flsw"})) == [
            "`loss.temperature` 0.5 is outside `loss.schedule.temperature_range` 1.0 4.0: "
            "choose a temperature within it"
        ]

    @pytest.mark.parametrize(("task", "other"), [("summarization", "bleu"), ("translation", "rouge2")])
    def test_a_monitor_of_the_other_task(self, task, other):
        choices = ", ".join(TASKS[task].monitors)
        line = f"`eval.monitor` {other} is not a metric of {task}: choose {choices}"
        assert mistakes(run(task=task, **{"eval.monitor": other})) == [line]

    @pytest.mark.parametrize("side", ["encoder", "decoder"])
    def test_depth_and_ids_that_differ(self, side):
        changes = {f"student.{side}_layers": 3, f"student.{side}_layer_ids": [0, 5]}
        line = f"`student.{side}_layers` 3 and `student.{side}_layer_ids` 0 5 differ: give one"
        assert mistakes(run(**changes)) == [line]
        assert mistakes(run(**changes | {f"student.{side}_layers": 2})) == []

    @pytest.mark.parametrize("given", ["path", "config"])
    @pytest.mark.parametrize(("name", "value"), [("decoder_layers", 2), ("encoder_layer_ids", [0])])
    def test_layers_for_a_student_that_is_not_cut(self, given, name, value):
        line = f"`student.{name}` copies layers from a teacher: leave it out with `student.path` or `student.config`"
        assert mistakes(run(**{f"student.{given}": "p", f"student.{name}": value})) == [line]

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            ({"trainer.strategy": "fsdp"}, "`trainer.strategy` fsdp cannot hold tied weights: choose fsdp2"),
            (
                {"trainer.strategy": "fsdp2", "optim.name": "adafactor"},
                "`optim.name` adafactor does not support the sharded weights of `trainer.strategy` fsdp2: "
                "choose adamw, or ddp",
            ),
            (
                {"trainer.strategy": "ddp", "trainer.shard_teacher": True},
                "`trainer.shard_teacher` cannot be combined with `trainer.strategy` ddp: choose fsdp2",
            ),
            (
                {"trainer.strategy": "deepspeed_stage_2"},
                "`trainer.strategy` deepspeed_stage_2 cannot be resumed exactly, as `resume` auto requires: "
                "set `resume` never, or choose ddp or fsdp2",
            ),
        ],
    )
    def test_strategies_and_what_they_cannot_do(self, changes, line):
        assert mistakes(run(**changes)) == [line]

    def test_strategies_that_are_fine(self):
        assert mistakes(run(**{"trainer.strategy": "fsdp2", "trainer.shard_teacher": True})) == []
        assert mistakes(run(resume="never", **{"trainer.strategy": "deepspeed_stage_2"})) == []

    @pytest.mark.parametrize("option", REFUSED_TRAINER_OPTIONS)
    def test_trainer_options_that_would_break_the_plan(self, option):
        line = f"`trainer.extra` {option} is not available: {REFUSED_TRAINER_OPTIONS[option]}"
        assert mistakes(run(**{"trainer.extra": {option: 1}})) == [line]

    def test_every_trainer_option_has_a_flag_or_an_answer(self):
        own = {field.name for field in fields(TrainerConfig)}
        known = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
        assert known <= own | TRAINER_EXTRAS.keys() | REFUSED_TRAINER_OPTIONS.keys()
        assert not TRAINER_EXTRAS.keys() & (own | REFUSED_TRAINER_OPTIONS.keys())

    @pytest.mark.parametrize(("option", "values"), TRAINER_EXTRAS.items())
    def test_values_of_further_trainer_options(self, option, values):
        for value in values:
            assert mistakes(run(**{"trainer.extra": {option: value}})) == []
        line = f"`trainer.extra` {option} 1: choose one of {', '.join(map(str, values))}"
        assert mistakes(run(**{"trainer.extra": {option: 1}})) == [line]

    def test_the_refused_ones_are_those_that_break_it(self):
        assert {
            "check_val_every_n_epoch",
            "min_epochs",
            "overfit_batches",
            "reload_dataloaders_every_n_epochs",
            "use_distributed_sampler",
        } <= set(REFUSED_TRAINER_OPTIONS)
        assert mistakes(run(**{"trainer.extra": {"profiler": "simple"}})) == []


def entry(**keys: Any) -> FeatureLossConfig:
    return FeatureLossConfig(**{"student": -1, "teacher": -1} | keys)


class TestMatches:
    @pytest.mark.parametrize("side", ["encoder", "decoder"])
    @pytest.mark.parametrize("layers", ["copied", "spread", "last"])
    def test_that_are_fine(self, side, layers):
        entries = [
            FeatureLossConfig(side=side, layers=layers),
            entry(side=side, loss="mmd", weight=0.0),
            entry(side=side, feature="self_attention", loss="ce"),
            entry(side=side, student=[0, -1], teacher=[0, 5], loss="gram", projection="relu"),
        ]
        assert mistakes(run(matches=entries, **{"optim.projection_lr": 1e-3})) == []
        nothing = {"loss.alpha_ce": 0.0, "loss.alpha_mlm": 0.0}
        assert mistakes(run(matches=[entry()], **nothing)) == []
        assert len(mistakes(run(matches=[entry(weight=0.0)], **nothing))) == 1

    @pytest.mark.parametrize(
        ("match", "line"),
        [
            (entry(weight=-1.0), "weight -1.0 is too small: choose 0 or more"),
            (entry(weight=float("inf")), "weight inf is not a finite number: give a finite one"),
            (entry(weight=None), "weight null: it needs a value; give one, or leave it out for the default"),
            (
                entry(side="encoder", feature="cross_attention"),
                "feature cross_attention: an encoder has none; choose self_attention, or side decoder",
            ),
            (
                entry(feature="self_attention", loss="cosine"),
                "loss cosine cannot compare self_attention: choose mse, ce",
            ),
            (
                entry(loss="ce"),
                "loss ce cannot compare hidden: choose mse, cosine, pkd, pkd_first, mmd, gram",
            ),
            (
                entry(feature="self_attention", projection="linear"),
                "projection linear: attention weights have no width to project; leave it out",
            ),
            (entry(layers="last"), "layers last and student -1: give one or the other"),
            (
                entry(teacher=None),
                "lacks teacher: give a layer, or set layers to copied, spread or last in place of both",
            ),
            (
                FeatureLossConfig(),
                "lacks student and teacher: give a layer, or set layers to copied, spread or last in place of both",
            ),
            (
                FeatureLossConfig(layers="copied", loss="gram"),
                "layers copied: gram compares the change between two layers; give student and teacher",
            ),
            (
                entry(loss="gram", student=[0, 1]),
                "teacher -1: gram takes two layers; give a pair such as [0, -1]",
            ),
            (entry(student=[1]), "student [1]: mse takes a single layer; give one, or set loss to gram"),
        ],
    )
    def test_an_entry_that_cannot_be(self, match, line):
        comma = "" if line.startswith("lacks") else ","
        assert mistakes(run(matches=[entry(), match])) == [f"`matches` entry 1{comma} {line}"]

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            ({"method": "sft"}, "`matches` compares with a teacher, and `method` sft has none: leave one out"),
            (
                {"teacher": None, "student.path": "p"},
                "`matches` compares with a teacher: add `teacher`, or leave it out",
            ),
            (
                {"teacher_cache": "c"},
                "`matches` needs layer outputs, which `teacher_cache` c does not hold: leave one out",
            ),
            (
                {"optim.projection_lr": 0.1},
                "`optim.projection_lr` 0.1 needs an entry of `matches` with a projection: add one, or leave it out",
            ),
        ],
    )
    def test_what_they_do_not_go_with(self, changes, line):
        assert mistakes(run(matches=[entry()], **changes)) == [line]


class TestTrim:
    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            ({"student": StudentConfig(path="s")}, "`trim.size` 900 cannot be combined with `student.path`"),
            ({"ensemble": EnsembleConfig(["b"])}, "`trim.size` 900 cannot be combined with `ensemble.teachers`"),
            (
                {"data": None, "tasks": [TaskConfig("a", ["x"])]},
                "`trim.size` 900 cannot be combined with `tasks`",
            ),
            (
                {"teacher": None, "student": StudentConfig(config="c")},
                "`trim.size` 900 trims the vocabulary of a teacher: name one by `teacher`",
            ),
        ],
    )
    def test_what_it_does_not_go_with(self, changes, line):
        assert mistakes(run(trim=TrimConfig(size=900))) == []
        [mistake] = mistakes(run(trim=TrimConfig(size=900), **changes))
        assert mistake.startswith(line)

    @pytest.mark.parametrize(
        ("trim", "line"),
        [
            (TrimConfig(0.9, 900), "`trim.coverage` 0.9 and `trim.size` 900 both say how much is kept: give one"),
            (TrimConfig(separate=True), "`trim.separate` true says how a vocabulary is trimmed, not how far"),
            (TrimConfig(languages=["en", "de"]), "`trim.languages` en de says how a vocabulary is trimmed"),
            (TrimConfig(0.0), "`trim.coverage` 0.0 is too small"),
            (TrimConfig(1.1), "`trim.coverage` 1.1 is too large"),
            (TrimConfig(size=3), "`trim.size` 3 is too small"),
        ],
    )
    def test_options_by_themselves(self, trim, line):
        [mistake] = mistakes(run(trim=trim))
        assert mistake.startswith(line)

    def test_the_command_needs_to_know_how_far(self):
        [mistake] = mistakes(TrimOnlyConfig(model="m", output_dir="o"))
        assert mistake.startswith("`trim.coverage` and `trim.size` are missing")
        assert mistakes(TrimOnlyConfig(model="m", output_dir="o", trim=TrimConfig(0.9))) == []


def test_several_mistakes_are_listed_together():
    config = RunConfig(
        teacher="t",
        student=StudentConfig(decoder_layers=0, dropout=2.0),
        encode=EncodeConfig(n_train=0),
        batch=BatchConfig(size=-4),
        loss=LossConfig(temperature=0.0),
        optim=OptimConfig(lr=-1.0),
        eval=EvalConfig(beams=0),
        trainer=TrainerConfig(extra={"min_epochs": 1}),
    )
    named = [line.split()[0] for line in mistakes(config)]
    assert sorted(named) == [
        "`batch.size`",
        "`encode.n_train`",
        "`eval.beams`",
        "`loss.temperature`",
        "`optim.lr`",
        "`student.decoder_layers`",
        "`student.dropout`",
        "`task`",
        "`teacher`",
        "`trainer.extra`",
    ]


@pytest.mark.parametrize("config", [LabelConfig(), EvaluateConfig(), ExportConfig()])
def test_all_commands_decode_with_the_same_defaults(config):
    options = {field.name: getattr(config, field.name) for field in fields(DecodingOptions)}
    assert DecodingOptions(**options) == DecodingOptions()
    assert (config.source_limit, config.target_limit) == (1024, 142)
    assert replace(config, max_source_length=9, max_target_length=8).source_limit == 9


class TestCommands:
    def test_a_student_alone(self):
        assert mistakes(StudentOnlyConfig()) == ["`teacher` is missing: name one", "`output_dir` is missing: name one"]
        assert mistakes(StudentOnlyConfig("t", "o", StudentConfig(decoder_layers=3))) == []

    @pytest.mark.parametrize(("name", "value"), [("path", "p"), ("config", "c"), ("vocab_size", 300)])
    def test_a_student_that_is_not_cut_from_the_teacher(self, name, value):
        config = StudentOnlyConfig("t", "o", StudentConfig(**{name: value}))
        line = f"`student.{name}` does not build a student from a teacher's layers: leave it out"
        assert mistakes(config) == [line]

    def test_a_student_s_own_mistakes_are_those_of_a_run(self):
        student = StudentConfig(encoder_layers=0, dropout=1.0, decoder_layers=1, decoder_layer_ids=[0, 1])
        named = [line.split()[0] for line in mistakes(StudentOnlyConfig("t", "o", student))]
        assert named == ["`student.encoder_layers`", "`student.dropout`", "`student.decoder_layers`"]

    def test_average_and_convert(self):
        assert mistakes(AverageConfig()) == ["`checkpoints` is missing: name one", "`output_dir` is missing: name one"]
        assert mistakes(ConvertConfig()) == ["`checkpoint` is missing: name one", "`output_dir` is missing: name one"]
        assert mistakes(AverageConfig(["a", "b"], "o")) == []
        assert mistakes(ConvertConfig("a", "o")) == []
