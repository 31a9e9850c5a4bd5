"""The same rows give the same student, whether they are accumulated, dealt out to processes, or one batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoConfig

from seq2seq_distill.cli.main import main
from seq2seq_distill.training.output_folder import plain
from seq2seq_distill.training.run import run_config
from tests.processes import LIMIT, ROOT, Job
from tests.system import two_processes
from tests.tiny_runs import config, save_teacher, write_data

STEPS = 3
# Every term takes part, nothing is frozen, nothing is random.
CHANGES: dict[str, Any] = {
    "student": {
        "encoder_layers": 1,
        "decoder_layers": 1,
        "freeze_encoder": False,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "overrides": {"activation_dropout": 0.0},
    },
    "loss": {"alpha_hid": 1.0, "label_smoothing": 0.1},
    # Some gradients are zero but for rounding (biases of keys); a small eps would make whole steps of them.
    "optim": {"lr": 0.02, "eps": 1e-2, "warmup_steps": 0},
    "eval": {"beams": 1, "max_target_length": 6, "batch_size": 3, "n_speed": 0},
}
# Clipping would hide a gradient of the wrong scale.
TRAINER = {"max_steps": STEPS, "val_check_interval": STEPS, "gradient_clip_val": None}


def changes(folder: Path, **groups: dict[str, Any]) -> dict[str, Any]:
    """Config changes of a run with output in `folder`."""
    trainer = {**TRAINER, **groups.pop("trainer", {})}
    return {**CHANGES, **groups, "output_dir": str(folder), "trainer": trainer}


def weights(folder: Path, steps: int = STEPS) -> dict[str, torch.Tensor]:
    """The student as it was after the last step."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == steps
    assert all(name.startswith(("student.", "projections.")) for name in checkpoint["state_dict"])  # H29: no teacher
    return checkpoint["state_dict"]


def validations(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


def assert_same_run(got: Path, expected: Path) -> None:
    ours, theirs = weights(got), weights(expected)
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-5, atol=1e-5, msg=name)
    lines, other = validations(got), validations(expected)
    assert [line["step"] for line in lines] == [line["step"] for line in other] == [0, STEPS]
    for line, reference in zip(lines, other, strict=True):
        assert line.keys() == reference.keys() and {"val_loss", "val_bleu", "val_chrf", "val_gen_len"} <= line.keys()
        assert line == pytest.approx(reference, abs=1e-4)


def moved(folder: Path, start: Path) -> bool:
    """Whether training did anything at all."""
    ours, theirs = weights(folder), weights(start)
    return any(not torch.allclose(weight, theirs[name], atol=1e-3) for name, weight in ours.items())


@pytest.mark.parametrize("size", [{"size": 8}, {"size": 3}, {"max_tokens": 90}], ids=["8", "3", "tokens"])
def test_accumulated_batches_are_one_batch(tmp_path: Path, size: dict[str, int]) -> None:
    """H3, H33: means of means weigh rows by their neighbours. With 3 rows dealt out to 4 one is left without."""
    one, many, other = (tmp_path / name for name in ("one", "many", "other"))
    clip = {"gradient_clip_val": 0.5 if "max_tokens" in size else None}
    results = run_config(config(tmp_path, **changes(one, batch=size, trainer=clip)))
    again = run_config(config(tmp_path, **changes(many, batch=size, trainer={**clip, "accumulate_grad_batches": 4})))
    assert_same_run(many, one)
    assert again["student"] == pytest.approx(results["student"])
    if size == {"size": 8}:
        run_config(config(tmp_path, **changes(other, batch=size, optim={"lr": 1e-6})))
        assert moved(one, other)


def environment(**variables: str) -> dict[str, str]:
    """Of a process that finds the package and does not take all threads."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **variables}


def in_two_processes(folder: Path, *runs: dict[str, Any]) -> None:
    """Run these changes of the config of `folder`, one after the other, on two processes."""
    Job(two_processes.run_all, folder, list(runs), log=folder / "log", processes=2).succeed()


def test_a_plain_trainer_of_lightning_ends_with_the_weights_of_a_run(tmp_path: Path) -> None:
    config(tmp_path)  # the teacher and the data of both runs
    file = tmp_path / "built.pt"
    parallel = {"devices": 2, "strategy": "ddp", "accumulate_grad_batches": 2}
    built = {**changes(tmp_path / "built", trainer=parallel), "extra": {"built": str(file)}}
    in_two_processes(tmp_path, changes(tmp_path / "run", trainer=parallel), built)
    expected, found = weights(tmp_path / "run"), torch.load(file, weights_only=True)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_two_processes_are_one(tmp_path: Path) -> None:
    """H21, H25, H31: shards, scores and files are those of the whole, not of a process.

    Steps of 3 rows: with accumulation there are 4 parts, and one is without rows. An odd number of
    validation and of test batches is dealt out too.
    """
    one, plain, accumulated = (tmp_path / name for name in ("one", "plain", "accumulated"))
    write_data(tmp_path / "data", rows=28)  # 7 rows to validate and to test: 3 batches
    results = run_config(config(tmp_path, **changes(one, batch={"size": 3})))
    parallel = {"devices": 2, "strategy": "ddp"}
    in_two_processes(
        tmp_path,
        changes(plain, batch={"size": 3}, trainer=parallel),
        changes(accumulated, batch={"size": 3}, trainer={**parallel, "accumulate_grad_batches": 2}),
    )
    for folder in (plain, accumulated):
        assert_same_run(folder, one)
        written = json.loads((folder / "results.json").read_text("utf-8"))
        assert written["student"] == pytest.approx(results["student"])
        assert (folder / "test_generations.jsonl").read_text() == (one / "test_generations.jsonl").read_text()
        assert {path.name for path in folder.iterdir()} == {path.name for path in one.iterdir()}


def test_two_processes_with_a_teacher_cache_are_one(tmp_path: Path) -> None:
    """They fill it together, and read each its own rows."""
    one, two = tmp_path / "one", tmp_path / "two"
    write_data(tmp_path / "data", rows=28)
    groups = {"batch": {"size": 3}, "loss": {"alpha_hid": 0.0}, "cache": {"top_k": 8, "precision": "float32"}}
    run_config(config(tmp_path, **changes(one, **groups, teacher_cache=str(tmp_path / "cache-of-one"))))
    parallel = {"devices": 2, "strategy": "ddp"}
    in_two_processes(tmp_path, changes(two, **groups, teacher_cache=str(tmp_path / "cache"), trainer=parallel))
    assert_same_run(two, one)


def test_two_processes_with_two_tasks_and_two_teachers_are_one(tmp_path: Path) -> None:
    """Steps of 3 rows, one of which may leave a process without; an odd number of batches to validate each task."""
    write_data(tmp_path / "data", rows=28)
    write_data(tmp_path / "few", rows=12, seed=5)
    save_teacher(tmp_path / "second", seed=3)
    tasks = [
        {"name": "first", "data": [str(tmp_path / "data")]},
        {"name": "second", "data": [str(tmp_path / "few")], "teacher": str(tmp_path / "second"), "prefix": "Hund "},
    ]
    groups: dict[str, Any] = {"batch": {"size": 3}, "tasks": tasks, "task_exponent": 0.5}
    trainer = {"max_steps": STEPS, "val_check_interval": STEPS, "gradient_clip_val": None}
    one, two = tmp_path / "one", tmp_path / "two"
    alone = changes(one, **groups, trainer=trainer)
    two_processes.run(tmp_path, {**alone, "extra": {"record": str(one) + ".json"}})
    for accumulate in (1, 2):
        parallel = {**trainer, "devices": 2, "strategy": "ddp", "accumulate_grad_batches": accumulate}
        own = changes(Path(f"{two}-{accumulate}"), **groups, trainer=parallel)
        in_two_processes(tmp_path, {**own, "extra": {"record": f"{two}-{accumulate}.json"}})
        assert_same_run(Path(f"{two}-{accumulate}"), one)
    ours, theirs = (losses(recorded(Path(f"{path}.json"), n)) for path, n in ((f"{two}-1", 2), (one, 1)))
    assert ours == pytest.approx(theirs, rel=1e-5) and len(ours) == STEPS
    line = validations(one)[-1]
    assert line["val_first/loss"] != pytest.approx(line["val_second/loss"], rel=0.01)
    tasks_of_steps = {
        tuple(row // 28 for row in rows if row >= 0)
        for record in recorded(Path(f"{one}.json"), 1)
        for rows in record["rows"]
    }
    assert tasks_of_steps == {(0, 0, 0), (1, 1, 1)}


def test_two_processes_with_matches_are_one(tmp_path: Path) -> None:
    """Projections are trained alike, whole under ddp and sharded under fsdp2, by a clipped gradient.

    The student is narrower than its teacher, whose vocabulary is trimmed: process 0 cuts both, the other reads them.
    """
    write_data(tmp_path / "data", rows=28)
    groups: dict[str, Any] = {
        "student": {**CHANGES["student"], "encoder_ffn_dim": 0.5, "decoder_ffn_dim": 0.5},
        "batch": {"size": 3},
        "trim": {"coverage": 0.9},
        "matches": [
            {"layers": "spread", "projection": "tanh"},
            {"side": "encoder", "layers": "last", "loss": "mmd"},
            {"student": -1, "teacher": -1, "feature": "cross_attention", "loss": "ce"},
            {"student": [0, 0], "teacher": [0, -1], "loss": "gram", "projection": "linear"},
        ],
        "optim": {**CHANGES["optim"], "projection_lr": 0.05},
    }
    clip = {"gradient_clip_val": 0.5}
    run_config(config(tmp_path, **changes(tmp_path / "one", **groups, trainer=clip)))
    ddp = {**clip, "devices": 2, "strategy": "ddp", "accumulate_grad_batches": 2}
    fsdp2 = {**clip, "devices": 2, "strategy": "fsdp2", "shard_teacher": True}
    in_two_processes(
        tmp_path,
        changes(tmp_path / "ddp", **groups, trainer=ddp),
        changes(tmp_path / "fsdp2", **groups, trainer=fsdp2),
    )
    assert sum(name.startswith("projections.") for name in weights(tmp_path / "one")) == 4
    for name in ("ddp", "fsdp2"):
        assert_same_run(tmp_path / name, tmp_path / "one")
        best = load_file(tmp_path / name / "best" / "model.safetensors")
        assert not any("projection" in key for key in best)
        teacher = AutoConfig.from_pretrained(tmp_path / "teacher")
        student = AutoConfig.from_pretrained(tmp_path / name / "best")
        assert student.vocab_size < teacher.vocab_size and student.decoder_ffn_dim == teacher.decoder_ffn_dim // 2


LONG = 20
"""Steps of 21 rows: one data epoch of 404."""


def long_run(folder: Path, strategy: str = "auto", *, extra: dict[str, Any] | None = None, **trainer: Any) -> Any:
    """Changes for a run over one data epoch, with an early validation, judged by its loss."""
    options = {"max_steps": LONG, "val_check_interval": 10, "strategy": strategy, "gradient_clip_val": 0.5, **trainer}
    own = {"batch": {"size": 21}, "optim": {**CHANGES["optim"], "lr": 0.01}, "extra": extra or {}}
    return changes(folder, **own, eval={**CHANGES["eval"], "batch_size": 8, "monitor": "loss"}, trainer=options)


def recorded(file: Path, processes: int) -> list[dict[str, Any]]:
    return [json.loads(Path(f"{file}.{rank}").read_text()) for rank in range(processes)]


def losses(records: list[dict[str, Any]]) -> list[float]:
    """Of the whole steps: each process has its share times the number of processes."""
    return [sum(shares) / len(records) for shares in zip(*(r["losses"] for r in records), strict=True)]


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-5, atol=1e-5, msg=name)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, and two under ddp and fsdp2, whole and resumed; 404 rows to train on, 101 to validate and test."""
    folder = tmp_path_factory.mktemp("together")
    write_data(folder / "data", rows=404)
    alone = long_run(folder / "one", devices=1)
    alone.pop("extra")
    two_processes.run(folder, {**alone, "extra": {"record": str(folder / "one.json")}})
    saving = {"devices": 2, "save_every_n_steps": 4}
    ddp, fsdp2 = {**saving, "strategy": "ddp"}, {**saving, "strategy": "fsdp2", "shard_teacher": True}
    short = {"max_steps": 2, "val_check_interval": 2}
    drop = {**CHANGES["student"], "encoder_layers": 2, "encoder_layerdrop": 0.5}
    in_two_processes(
        folder,
        long_run(folder / "ddp", extra={"record": str(folder / "ddp.json")}, **ddp),
        long_run(folder / "fsdp2", extra={"record": str(folder / "fsdp2.json")}, **fsdp2),
        long_run(folder / "resumed", extra={"stop": 6}, **fsdp2),
        long_run(folder / "resumed", extra={"record": str(folder / "resumed.json")}, **fsdp2),
        long_run(folder / "moved", extra={"stop": 6}, **ddp),
        long_run(folder / "moved", **fsdp2),
        {
            **long_run(folder / "drops", **{**saving, **short}),
            "student": drop,
        },  # DDP alone would wait for its gradients
        long_run(folder / "bf16", precision="bf16-mixed", **{**fsdp2, **short}),
    )
    return folder


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_losses_and_scores_are_those_of_one_process(together: Path, name: str) -> None:
    ours, theirs = losses(recorded(together / f"{name}.json", 2)), losses(recorded(together / "one.json", 1))
    assert len(ours) == LONG and ours == pytest.approx(theirs, rel=1e-5)
    assert min(theirs[-5:]) < 0.9 * theirs[0]
    lines, other = validations(together / name), validations(together / "one")
    assert [line["step"] for line in lines] == [0, 10, 20]
    for line, reference in zip(lines, other, strict=True):
        scores = {key: value for key, value in reference.items() if "loss" not in key and "entropy" not in key}
        assert {key: line[key] for key in scores} == scores
        assert line == pytest.approx(reference, rel=1e-5)
    texts = [(together / each / "test_generations.jsonl").read_text() for each in (name, "one")]
    assert texts[0] == texts[1] and texts[0].count("\n") == 101


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_each_row_comes_once_per_epoch(together: Path, name: str) -> None:
    records = recorded(together / f"{name}.json", 2)
    assert len(records[0]["rows"]) == len(records[1]["rows"]) == LONG
    rows = [row for record in records for batch in record["rows"] for row in batch if row >= 0]
    assert sorted(rows) == list(range(404))


def test_fsdp2_has_a_part_of_the_weights_and_ddp_all(together: Path) -> None:
    whole = recorded(together / "one.json", 1)[0]["weights"]
    assert [record["weights"] for record in recorded(together / "ddp.json", 2)] == [whole, whole]
    parts = recorded(together / "fsdp2.json", 2)
    assert all(record["sharded"] for record in parts)
    assert sum(record["weights"] for record in parts) == whole
    assert max(record["weights"] for record in parts) < 0.6 * whole


@pytest.mark.parametrize("name", ["fsdp2", "resumed", "moved"])
def test_fsdp2_ends_with_the_students_of_ddp(together: Path, name: str) -> None:
    """`resumed` was stopped after step 6 and went on from the checkpoint of step 4; `moved` was begun under ddp."""
    assert_close(weights(together / name, LONG), weights(together / "ddp", LONG))
    best = [load_file(together / each / "best" / "model.safetensors") for each in (name, "ddp", "one")]
    start = load_file(together / name / "student_init" / "model.safetensors")
    assert_close(best[0], best[1])
    assert any(not torch.allclose(best[0][key], start[key], atol=1e-3) for key in start)
    configs = [(together / each / "best" / "config.json").read_text() for each in (name, "ddp")]
    assert configs[0] == configs[1]
    optimizers = [
        torch.load(together / each / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]
        for each in (name, "ddp")
    ]
    assert optimizers[0]["param_groups"] == optimizers[1]["param_groups"]
    for index, state in optimizers[1]["state"].items():
        assert_close(optimizers[0]["state"][index], state)


def test_a_resumed_run_of_fsdp2_ends_with_the_same_bits(together: Path) -> None:
    whole, resumed = recorded(together / "fsdp2.json", 2), recorded(together / "resumed.json", 2)
    assert [record["losses"] for record in resumed] == [record["losses"][4:] for record in whole]
    ours, theirs = weights(together / "resumed", LONG), weights(together / "fsdp2", LONG)
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())


def test_fsdp2_in_bf16_learns_alike(together: Path) -> None:
    lines, other = validations(together / "bf16"), validations(together / "ddp")
    assert lines[0]["val_loss"] == pytest.approx(other[0]["val_loss"], rel=0.02)
    assert lines[0]["val_loss"] != pytest.approx(other[0]["val_loss"], rel=1e-5)  # bf16 it is
    assert lines[-1]["step"] == 2 and lines[-1]["val_loss"] < lines[0]["val_loss"]
    best = load_file(together / "bf16" / "best" / "model.safetensors")
    assert {weight.dtype for weight in best.values()} == {torch.float32}


def command(folder: Path, name: str, strategy: str) -> list[str]:
    """The arguments of a short run on two processes."""
    run = config(folder, **changes(folder / name, batch={"size": 3}, trainer={"strategy": strategy}))
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(plain(run)))
    return ["--config", str(file), "--trainer.devices", "2"]


def test_the_command_starts_its_own_processes_or_takes_those_of_slurm(tmp_path: Path) -> None:
    one, own, slurm = (tmp_path / name for name in ("one", "own", "slurm"))
    write_data(tmp_path / "data", rows=28)
    run_config(config(tmp_path, **changes(one, batch={"size": 3})))
    process = subprocess.run(
        [sys.executable, "-m", "seq2seq_distill", *command(tmp_path, "own", "auto")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert_same_run(own, one)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {
        "SLURM_JOB_ID": "4242",
        "SLURM_JOB_NAME": "distill",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_ID": "0",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "localhost",
        "MASTER_PORT": str(port),
    }
    arguments = command(tmp_path, "slurm", "fsdp2")
    tasks = [
        Job(
            main,
            arguments,
            log=tmp_path / f"{rank}.log",
            environment={**job, "SLURM_PROCID": rank, "SLURM_LOCALID": rank},
        )
        for rank in ("0", "1")
    ]
    for task in tasks:
        task.succeed()
    assert_same_run(slurm, one)


@pytest.mark.parametrize(("torchrun", "rank"), [(True, 1), (False, 0), (False, 1)])
def test_a_failure_of_one_process_ends_all_with_its_message(tmp_path: Path, torchrun: bool, rank: int) -> None:
    """The other one sleeps for five minutes, as one that waits for a GPU would."""
    config(tmp_path)  # teacher and data, which the processes would otherwise both begin to write
    run = changes(tmp_path / "run", trainer={"devices": 2, "strategy": "ddp"})
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if torchrun else []
    script = ["-m", "tests.system.two_processes", str(tmp_path), json.dumps({**run, "extra": {"fail": rank}})]
    process = subprocess.run(
        [sys.executable, *launcher, *script],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert process.returncode != 0
    assert "ValueError: the fault of one process" in process.stderr
    assert "sleeping" in process.stdout
    assert not processes_with(str(tmp_path))


def processes_with(argument: str) -> list[int]:
    """Processes that still run with this in their command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if argument in file.read_text().replace("\0", " ") and int(file.parent.name) != os.getpid():
                found.append(int(file.parent.name))
        except OSError:
            continue  # it has just ended
    return found
