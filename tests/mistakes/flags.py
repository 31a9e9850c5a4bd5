"""Mistakes on the command line."""

from typing import Any, get_args

from hypothesis import strategies as st

from seq2seq_distill.config.conflicts import REFUSED_TRAINER_OPTIONS
from seq2seq_distill.config.tasks import TASKS
from tests.mistakes.kinds import (
    BOOLS,
    COUNTS,
    GROUPS,
    MAPPINGS,
    NUMBERS,
    OPTIONS,
    TEXTS,
    Bad,
    Kind,
    command,
    exporting,
    labelling,
    words,
)

SHARES = (
    "student.dropout",
    "student.attention_dropout",
    "student.decoder_layerdrop",
    "loss.label_smoothing",
    "loss.skew",
)
CHOICES = [name for name, hint in OPTIONS.items() if get_args(hint) and all(isinstance(c, str) for c in get_args(hint))]
TWO_TASKS = '[{"name": "a", "data": ["x"], "teacher": "t"}, {"name": "b", "data": ["y"]}]'
ODD = "\0\x1b\n\r\x7f\x85\u2028\ud800\udcff"
LANGUAGES = ("--src_lang", "en", "--tgt_lang", "de")
# What contradicts what, such a command, and the option that the message must name.
CONFLICTS: tuple[tuple[str, list[str], str], ...] = (
    ("two origins for the student", command("--student.path", "a", "--student.config", "b"), "--student.path"),
    (
        "a vocabulary size although the teacher has a tokenizer",
        command("--student.vocab_size", "300"),
        "--student.vocab_size",
    ),
    ("a wrong number of data weights", command("--data_weights", "1", "2"), "--data_weights"),
    ("all loss weights are 0", command("--loss.alpha_ce", "0", "--loss.alpha_mlm", "0"), "--loss.alpha_ce"),
    (
        "a depth that contradicts the layer ids",
        command("--student.decoder_layers", "3", "--student.decoder_layer_ids", "0", "1"),
        "--student.decoder_layers",
    ),
    (
        "a depth for a student that is not cut from the teacher",
        command("--student.path", "a", "--student.encoder_layers", "3"),
        "--student.encoder_layers",
    ),
    (
        "a width for a student that is not cut from the teacher",
        command("--student.path", "a", "--student.decoder_ffn_dim", "0.5"),
        "--student.decoder_ffn_dim",
    ),
    (
        "the same column for source and target",
        command("--encode.source_column", "a", "--encode.target_column", "a"),
        "--encode.source_column",
    ),
    (
        "a trimmed vocabulary for an existing student",
        command("--trim.coverage", "0.9999", "--student.path", "a"),
        "--trim.coverage",
    ),
    (
        "two sizes of a trimmed vocabulary",
        command("--trim.coverage", "0.9999", "--trim.size", "16000"),
        "--trim.coverage",
    ),
    ("languages to keep, but no trimming", command("--trim.languages", "en", "de"), "--trim.languages"),
    ("a strategy that copies the process", command("--trainer.strategy", "ddp_spawn"), "--trainer.strategy"),
    (
        "likelihoods of labels that the student replaces",
        command("--loss.alpha_chunk", "10", "--loss.on_policy", "0.5"),
        "--loss.alpha_chunk",
    ),
    (
        "hidden states of no teacher",
        command("--teacher", "null", "--student.path", "a", "--loss.alpha_hid", "1"),
        "--loss.alpha_hid",
    ),
    ("a cache that would not be used", command("--teacher_cache", "c", "--method", "sft"), "--teacher_cache"),
    (
        "feature losses with a cache",
        command("--teacher_cache", "c", "--matches", '{"layers": "last"}'),
        "--matches",
    ),
    (
        "a feature loss that does not apply to its feature",
        command("--matches", '{"layers": "last", "loss": "ce"}'),
        "--matches entry 0, loss",
    ),
    ("hidden states with a cache", command("--teacher_cache", "c", "--loss.alpha_hid", "1"), "--loss.alpha_hid"),
    ("logits with a cache", command("--teacher_cache", "c", "--loss.divergence", "mse"), "--loss.divergence"),
    (
        "a divergence other than forward KL with a cache of drawn tokens",
        command("--teacher_cache", "c", "--cache.draws", "9", "--loss.divergence", "jsd"),
        "--loss.divergence",
    ),
    (
        "several temperatures with a cache",
        command("--teacher_cache", "c", "--loss.schedule.temperature", "linear"),
        "--loss.schedule.temperature",
    ),
    (
        "a temperature outside the range of its schedule",
        command("--loss.schedule.temperature", "flsw", "--loss.temperature", "9"),
        "--loss.temperature",
    ),
    (
        "a sharded 8-bit teacher",
        command(
            "--trainer.teacher_precision", "int8", "--trainer.strategy", "fsdp2", "--trainer.shard_teacher", "true"
        ),
        "--trainer.teacher_precision",
    ),
    ("both tasks and data", command("--tasks", TWO_TASKS), "--data"),
    ("a task without data", command("--tasks", '{"name": "a"}', without=["--data"]), "--tasks entry 0 lacks data"),
    (
        "two tasks with the same name",
        command("--tasks", TWO_TASKS.replace("b", "a"), without=["--data"]),
        "--tasks entry 1, name",
    ),
    (
        "tasks with and without a teacher",
        command("--tasks", TWO_TASKS, without=["--data", "--teacher"]),
        "--tasks entry 1 has no teacher",
    ),
    (
        "tasks with a cache",
        command("--tasks", TWO_TASKS, "--teacher_cache", "c", without=["--data"]),
        "--teacher_cache",
    ),
    ("a task exponent without tasks", command("--task_exponent", "0.5"), "--task_exponent"),
    (
        "teacher-specific sources without a teacher",
        command("--teacher_source.prefix", "a: ", "--student.path", "a", without=["--teacher"]),
        "--teacher_source.prefix",
    ),
    (
        "encoder hidden states with teacher-specific sources",
        command("--teacher_source.max_length", "9", "--loss.alpha_hid", "1"),
        "--loss.alpha_hid",
    ),
    (
        "encoder hidden states with noise",
        command("--noise.typos", "0.1", "--loss.alpha_hid", "1"),
        "--loss.alpha_hid",
    ),
    (
        "likelihoods of labels that noise changes",
        command("--noise.preset", "firefox", "--loss.alpha_chunk", "10"),
        "--loss.alpha_chunk",
    ),
    (
        "averaged weights with DeepSpeed",
        command("--optim.ema", "0.999", "--trainer.strategy", "deepspeed", "--resume", "never"),
        "--optim.ema",
    ),
    (
        "an encoder feature loss with teacher-specific sources",
        command("--teacher_source.prefix", "a: ", "--matches", '{"layers": "last", "side": "encoder"}'),
        "--matches entry 0, side encoder",
    ),
    ("a teacher without data", command(without=["--data"]), "--teacher"),
    ("data without a teacher", command(without=["--teacher"]), "--data"),
    (
        "sampling through the free options of `label`",
        labelling("--generate", '{"do_sample": true}'),
        "--generate do_sample",
    ),
    (
        "an option that a server has no use for",
        labelling(*LANGUAGES, "--server", "http://localhost:8000/v1", "--max_tokens", "512"),
        "--max_tokens",
    ),
    ("an option of a server without one", labelling("--max_requests", "100"), "--max_requests"),
    ("a server that is no URL", labelling(*LANGUAGES, "--server", "localhost:8000"), "--server"),
    (
        "a shortlist for another engine",
        exporting("--shortlist", "true", "--format", "onnx"),
        "--shortlist needs --format ctranslate2",
    ),
    ("a missing task", command(without=["--task"]), "--task"),
)


def flag_and_value(title: str, flags: list[str], values: st.SearchStrategy[Any], example: tuple[str, Any]) -> Kind:
    """A kind where a single flag has a value that it cannot take."""

    def make(drawn: tuple[str, Any]) -> Bad:
        name, value = drawn
        return Bad(command(f"--{name}", str(value)), f"--{name}")

    return Kind(title, st.tuples(st.sampled_from(flags), values), example, make)


def misspelt(drawn: tuple[str, int, str]) -> Bad:
    name, place, letter = drawn
    start = name.rfind(".") + 1
    at = start + place % (len(name) - start + 1)
    wrong = f"--{name[:at]}{letter}{name[at:]}"
    return Bad(command(wrong, "1"), wrong)


def several(drawn: tuple[list[str], str]) -> Bad:
    names, word = drawn
    pairs = [part for name in names for part in (f"--{name}", word)]
    return Bad(command(*pairs), f"--{names[-1]} {word}", len(names))


def divergence(text: str) -> Bad:
    return Bad(command("--loss.divergence", text), "--loss.divergence")


def layer_ids(ids: list[int]) -> Bad:
    return Bad(command("--student.decoder_layer_ids", *map(str, ids)), "--student.decoder_layer_ids")


def betas(values: list[float]) -> Bad:
    return Bad(command("--optim.betas", *map(str, values)), "--optim.betas")


def extra(title: str, values: st.SearchStrategy[str], example: str) -> Kind:
    return Kind(title, values, example, lambda text: Bad(command("--trainer.extra", text), "--trainer.extra"))


def in_mapping(drawn: tuple[str, str]) -> Bad:
    name, text = drawn
    return Bad(command(f"--{name}", text), f"--{name}")


KINDS = (
    Kind(
        "an unknown flag",
        st.tuples(st.sampled_from(sorted(OPTIONS)), st.integers(0, 40), st.sampled_from("qxz")),
        ("student.decoder_layers", 13, "x"),
        misspelt,
    ),
    flag_and_value("text instead of a number", COUNTS + NUMBERS, words, ("optim.lr", "fast")),
    flag_and_value(
        "a fraction instead of a whole number", COUNTS, st.integers(-99, 99).map("{}.5".format), ("batch.size", "1.5")
    ),
    flag_and_value("a value that is not among the choices", CHOICES, words, ("method", "distil")),
    flag_and_value("a value that is neither true nor false", BOOLS, words, ("trainer.deterministic", "maybe")),
    flag_and_value(
        "a number that is not finite (NaN or infinity)",
        NUMBERS,
        st.sampled_from([".nan", ".inf", "-.inf", "1e999", ".NaN", "+.INF"]),
        ("optim.lr", ".nan"),
    ),
    flag_and_value(
        "a number with too many digits", COUNTS, st.integers(61, 9000).map("9".__mul__), ("batch.size", "9" * 70)
    ),
    flag_and_value(
        "a number that is too large", COUNTS + NUMBERS, st.integers(2**33, 10**40), ("trainer.max_steps", 99999999999)
    ),
    flag_and_value(
        "a negative number",
        [name for name in COUNTS + NUMBERS if name != "eval.length_penalty"],
        st.integers(-(10**6), -2),
        ("batch.size", -4),
    ),
    flag_and_value("a fraction of 1 or more", list(SHARES), st.floats(1, 10**6), ("student.dropout", 1.5)),
    flag_and_value("an empty value", [*TEXTS, "data"], st.sampled_from(["", " ", "   "]), ("output_dir", "")),
    flag_and_value(
        "a value with control characters",
        [*TEXTS, "data"],
        st.tuples(words, st.sampled_from(ODD), words).map("".join),
        ("teacher", "a\nb"),
    ),
    flag_and_value(
        "a file name that is too long", TEXTS, st.integers(256, 9000).map("x".__mul__), ("teacher", "x" * 300)
    ),
    flag_and_value(
        "the home folder of an unknown user", TEXTS, words.map("~{0}{0}/x".format), ("teacher", "~nobody-here/model")
    ),
    flag_and_value(
        "a duration in another format",
        ["trainer.max_time"],
        st.one_of(words, st.integers(0, 999).map(str), st.integers(0, 99).map("{}:30".format)),
        ("trainer.max_time", "8h"),
    ),
    flag_and_value(
        "an invalid number of devices",
        ["trainer.devices"],
        st.one_of(words, st.integers(-99, -2), st.just(0), st.floats(0.1, 0.9)),
        ("trainer.devices", 0),
    ),
    flag_and_value("an unknown precision", ["trainer.precision"], words, ("trainer.precision", "8-true")),
    flag_and_value("an unknown accelerator", ["trainer.accelerator"], words, ("trainer.accelerator", "abacus")),
    flag_and_value(
        "a metric of another task",
        ["eval.monitor"],
        st.one_of(words, st.sampled_from([name for name in TASKS["summarization"].monitors if name != "loss"])),
        ("eval.monitor", "rouge2"),
    ),
    flag_and_value("a value that must be a mapping", MAPPINGS, words, ("eval.generate", "beams")),
    flag_and_value("a value for an option group", GROUPS, words, ("optim", "fast")),
    Kind(
        "a key that is not text",
        st.tuples(st.sampled_from(MAPPINGS), st.integers().map("{{{}: 1}}".format)),
        ("eval.generate", "{1: 2}"),
        in_mapping,
    ),
    Kind(
        "a value in a mapping that is not finite (NaN or infinity)",
        st.tuples(st.sampled_from(MAPPINGS), words.map('{{"{}": .nan}}'.format)),
        ("student.overrides", '{"dropout": .nan}'),
        in_mapping,
    ),
    extra(
        "a Trainer option that would break the run",
        st.sampled_from(sorted(REFUSED_TRAINER_OPTIONS)).map('{{"{}": 1}}'.format),
        '{"min_epochs": 1}',
    ),
    extra("an unknown Trainer option", words.map('{{"{}": 1}}'.format), '{"profilr": "simple"}'),
    extra("a Trainer option with an invalid value", words.map('{{"profiler": "{}"}}'.format), '{"profiler": "x"}'),
    Kind("an unknown divergence", words, "kl", divergence),
    Kind(
        "divergences with invalid weights",
        st.one_of(words.map('{{"{}": 1}}'.format), st.floats(-9, 0).map('{{"jsd": {}}}'.format), st.just("{}")),
        '{"jsd": 0}',
        divergence,
    ),
    flag_and_value("an invalid beta of jsd", ["loss.beta"], st.one_of(st.floats(1, 9), st.just(0)), ("loss.beta", 1.0)),
    Kind(
        "a range in the wrong order",
        st.tuples(st.floats(4, 9), st.floats(1, 3)),
        (8.0, 1.0),
        lambda ends: Bad(
            command("--loss.schedule.temperature_range", *map(str, ends)), "--loss.schedule.temperature_range"
        ),
    ),
    Kind(
        "layer ids in the wrong order",
        st.lists(st.integers(0, 12), min_size=2, max_size=5).filter(lambda ids: ids != sorted(set(ids))),
        [3, 0],
        layer_ids,
    ),
    Kind(
        "a wrong number of values",
        st.lists(st.sampled_from([0.5, 0.9]), min_size=1, max_size=5).filter(lambda values: len(values) != 2),
        [0.9],
        betas,
    ),
    Kind(
        "a flag given twice",
        st.tuples(st.sampled_from(TEXTS), words, words),
        ("student.path", "a", "b"),
        lambda drawn: Bad(command(f"--{drawn[0]}", drawn[1], f"--{drawn[0]}", drawn[2]), f"--{drawn[0]}"),
    ),
    Kind(
        "a flag without a value",
        st.sampled_from(sorted(OPTIONS)),
        "optim.lr",
        lambda name: Bad(command(f"--{name}"), f"--{name}"),
    ),
    Kind(
        "an argument that belongs to no flag",
        words,
        "fast",
        lambda word: Bad(command("--seed", "1", word), word),
    ),
    Kind("an unknown command", words, "distil", lambda word: Bad([word, *command()], word)),
    Kind(
        "several errors",
        st.tuples(st.lists(st.sampled_from(COUNTS + NUMBERS), min_size=2, max_size=4, unique=True), words),
        (["batch.size", "optim.lr"], "many"),
        several,
    ),
    *(
        Kind(title, st.just(None), None, lambda _, arguments=arguments, named=named: Bad(arguments, named))
        for title, arguments, named in CONFLICTS
    ),
)
