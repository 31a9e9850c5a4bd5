"""What the documentation names exists: flags, links, files, commands, Python names, families, tables."""

import re
import shlex
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from seq2seq_distill.cli.main import COMMANDS, parse
from seq2seq_distill.models.architectures import ARCHITECTURES, REFUSED
from seq2seq_distill.models.layer_map import COPY, SUPERVISE
from tests.project import option_list

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
FLAG = re.compile(r"(?<![\w-])--[A-Za-z_](?:[\w.]*\w)?")
# Flags of the predecessor's scripts, as their parsers had them, and options of Lightning 1.0's Trainer that its shell
# scripts and readers used.
OLD_FLAGS = re.findall(
    r"\S+",
    """
--task --teacher --student --student_encoder_layers --student_decoder_layers --no_teacher --model_name_or_path
--config_name --tokenizer_name --cache_dir --data_dir --output_dir --overwrite_output_dir --do_train --do_predict
--alpha_ce --alpha_mlm --alpha_hid --supervise_forward --normalize_hidden --label_smoothing --freeze_encoder
--freeze_embeds --dropout --attention_dropout --encoder_layerdrop --decoder_layerdrop --length_penalty
--max_source_length --max_target_length --val_max_target_length --test_max_target_length --eval_max_gen_length
--eval_beams --val_metric --early_stopping_patience --save_top_k --n_train --n_val --n_test --src_lang --tgt_lang
--train_batch_size --eval_batch_size --sortish_sampler --max_tokens_per_batch --num_workers --learning_rate
--lr_scheduler --warmup_steps --weight_decay --adam_epsilon --adafactor --num_train_epochs --max_grad_norm
--gradient_accumulation_steps --fp16 --fp16_opt_level --n_tpu_cores --seed --logger_name --gpus --num_nodes
--distributed_backend --accelerator --precision --amp_backend --amp_level --max_epochs --max_steps --min_epochs
--min_steps --val_check_interval --check_val_every_n_epoch --limit_train_batches --limit_val_batches
--limit_test_batches --num_sanity_val_steps --fast_dev_run --overfit_batches --accumulate_grad_batches
--gradient_clip_val --resume_from_checkpoint --deterministic --log_every_n_steps --profiler teacher --save_path --e
--d --copy_first_teacher_layers --e_layers_to_copy --d_layers_to_copy pl_ckpt_path hf_src_model_dir save_path
model_name input_path --model_name --save_dir --reference_path --score_path --type_path --prefix --bs --n_obs
--device --num_beams --dump-args --info --local_rank --sync_timeout --debug
""",
)


# Of torchrun, srun, sbatch, ray, npm, Python, uvicorn, hf and benchmarks; a name ends for us at its first hyphen.
FOREIGN_FLAGS = set(
    "--nnodes --nproc_per_node --rdzv_backend --rdzv_endpoint --rdzv_id --nodes --ntasks --gpus --signal --requeue "
    "--time --kill --max_length --vocab --target --rounds --divergence --only --seeds --head --address --train_on "
    "--ignore --no --labels --bind --app --local --merged --single --vocabulary --length --precision --steps --engines "
    "--extra".split()
)


@cache
def flags_of(name: str) -> frozenset[str]:
    text = StringIO()
    with redirect_stdout(text), pytest.raises(SystemExit, match="0"):
        parse(name, ["--help"])
    return frozenset(FLAG.findall(text.getvalue()))


def known_flags() -> set[str]:
    return {flag for name in COMMANDS for flag in flags_of(name)}


def migration_rows() -> list[list[str]]:
    """Rows `old flag | new flag | remark`."""
    rows, within = [], False
    for line in (ROOT / "docs" / "migration.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        within = bool(cells) and (within or cells == ["old flag", "new flag", "remark"])
        if within and cells[0] != "old flag" and not set(cells[0]) <= set("-:"):
            rows.append(cells)
    return rows


def code(page: Path) -> list[str]:
    """Code spans and code blocks; of the migration tables without the old flags."""
    text = page.read_text(encoding="utf-8")
    if page.name == "migration.md":
        text = re.sub(r"^\|[^|]*\|", "|", text, flags=re.MULTILINE)
        text = re.sub(r"[Ii]ts `--\w+`", "", text)
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"(?:^ {4}.*\n)+", text, flags=re.MULTILINE)
    return blocks + re.findall(r"`([^`]+)`", text)


def commands(page: Path) -> list[str]:
    lines = [line.strip() for part in code(page) for line in part.replace("\\\n", " ").splitlines()]
    lines = [part for line in lines for part in line.removeprefix("$ ").split(" | ")]
    lines = [re.split(r" [<>] ", line)[0] for line in lines]  # up to where the shell puts the output
    return [line for line in lines if line.startswith("distill ") and "--" in line]


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_flag_exists(page):
    named = {flag for part in code(page) for flag in FLAG.findall(part)}
    # The keys of a mapping are options of transformers, not of ours.
    named = {flag for flag in named if not flag.startswith("--eval.generate.")}
    assert named - known_flags() - FOREIGN_FLAGS == set()


def test_the_finder_of_flags_finds_wrong_ones(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("`--loss.alpha` and\n\n    distill --tacher x\n\n```\n--optim.lr_ 1\n```\n", encoding="utf-8")
    named = {flag for part in code(page) for flag in FLAG.findall(part)}
    assert named == {"--loss.alpha", "--tacher", "--optim.lr_"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_parses(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for command in commands(page):
        name, *arguments = shlex.split(command)[1:]
        if name not in COMMANDS:
            name, arguments = "run", [name, *arguments]
        if {"--help", "--version"} & set(arguments) or any(word.endswith("run.yaml") for word in arguments):
            continue  # the file of a run that is not there
        parse(name, arguments)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_relative_link_is_dead(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link} leads nowhere"
        if page.is_relative_to(DOCS):
            assert target.resolve().is_relative_to(DOCS), f"{link} leads out of the site"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in map(slug, headings), f"{link} names no heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_of_ours_exists(page):
    folders = "configs|seq2seq_distill|tests|benchmarks|docs"
    ours = rf"(?<![\w/])((?:{folders})/[\w./-]*|examples/\w+\.\w+)"
    named = re.findall(ours, page.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path.rstrip(".")).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_python_name_exists(page):
    text = page.read_text(encoding="utf-8")
    for module, names in re.findall(r"^from (seq2seq_distill[\w.]*) import (.+)$", text, flags=re.MULTILINE):
        for name in names.split(", "):
            assert hasattr(import_module(module), name)


def run_examples(page: str) -> dict[str, Any]:
    """Run the page's blocks of Python one after the other; what they leave behind."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    values: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), values)
    return values


def test_the_example_of_losses_runs():
    assert run_examples("losses.md")["student"].grad.isfinite().all()


def test_the_examples_for_python_run():
    values = run_examples("python.md")
    assert values["extensions"].weights == {"teachers_choice": 0.2}
    assert values["report"].parts.keys() > {"ce_loss", "hid_loss_enc", "match_0_decoder_hidden_cosine"}


def test_every_old_flag_has_a_row():
    named = [name for old, *_ in migration_rows() for name in re.findall(r"`([^`]+)`", old)]
    assert set(OLD_FLAGS) - set(named) == set()


@pytest.mark.parametrize("row", migration_rows(), ids=lambda row: row[0])
def test_an_old_flag_leads_to_a_new_one_or_says_why_it_is_gone(row):
    old, new, remark = row
    if new == "gone":
        assert remark, f"{old} is gone: say why"
    else:
        flags = FLAG.findall(new)
        assert flags and set(flags) <= known_flags()


def test_the_recipes_are_all_listed():
    listed = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    shipped = [str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml")]
    assert [path for path in shipped if path not in listed and not path.endswith("-shape.yaml")] == []


def test_every_family_is_listed():
    students = (DOCS / "students.md").read_text(encoding="utf-8")
    supported, refused = students.split("Refused, by name")
    for family in ARCHITECTURES:
        assert f"| `{family}` |" in supported
    assert f"Students of [{len(ARCHITECTURES)} model types]" in (ROOT / "README.md").read_text(encoding="utf-8")
    for family in REFUSED:
        assert f"`{family}`" in refused


def test_the_list_of_options_is_that_of_the_code():
    written = option_list.PAGE.read_text(encoding="utf-8")
    assert written == option_list.page(), "run python -m tests.project.option_list"


@pytest.mark.parametrize(("heading", "table"), [("Which layers", COPY), ("Which layers supervise", SUPERVISE)])
def test_the_tables_of_layers_are_those_of_the_code(heading, table):
    text = (ROOT / "docs" / "students.md").read_text(encoding="utf-8")
    section = text.split(f"### {heading}\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ([\d ]+) \|$", section, flags=re.MULTILINE)
    listed = {(int(deep), int(shallow)): tuple(map(int, layers.split())) for deep, shallow, layers in rows}
    assert listed == dict(table)
