"""`distill label --server`: each row once whatever the server does, within a budget, without a trace of the key."""

import json
import logging
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from seq2seq_distill.cli.main import main
from seq2seq_distill.commands.label import command
from seq2seq_distill.commands.label.command import label
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.config.validation import find_problems
from seq2seq_distill.data.sources import load_split
from seq2seq_distill.decoding.language_model import client
from seq2seq_distill.training.labels.shards import LabelFolder
from seq2seq_distill.utils.errors import ConfigError, DataError, RunError
from tests.fake_server import FakeServer, serving
from tests.processes import Job

ROWS, SHARD = 40, 8
KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_DELAY", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "train.source").write_text("".join(f"row {i} of the data\n" for i in range(ROWS)), "utf-8")
    for side, word in (("source", "example"), ("target", "Beispiel")):
        (folder / f"val.{side}").write_text("".join(f"{word} {i}\n" for i in range(8)), "utf-8")
    return folder


@pytest.fixture
def config(data: Path, tmp_path: Path) -> LabelConfig:
    return LabelConfig(
        model="tiny-llm",
        data=[str(data)],
        output_dir=str(tmp_path / "labels"),
        task="translation",
        src_lang="en",
        tgt_lang="de",
        shard_rows=SHARD,
        timeout=0.5,
    )


def run(config: LabelConfig, server: FakeServer, **changes: Any) -> dict[str, Any]:
    return label(replace(config, server=server.url, **changes))


def rows(config: LabelConfig, folder: str = "") -> list[dict[str, Any]]:
    paths = sorted((config.folder / folder).glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def journal(config: LabelConfig) -> list[dict[str, Any]]:
    paths = sorted((config.folder / "answers").glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]


def assert_each_row_once(config: LabelConfig) -> None:
    found = rows(config)
    assert [row["row"] for row in found] == list(range(ROWS))
    assert all(row["target"] == row["source"].upper() for row in found)
    assert sorted(line["row"] for line in journal(config)) == list(range(ROWS))


class TestFaults:
    def test_each_row_has_its_own_answer_whatever_the_server_does(self, config: LabelConfig) -> None:
        faults = (429, (429, "0"), 500, 503, "drop", "stall", "truncate", "prose")

        def fault(source: str, before: int) -> Any:
            number = int(source.split()[1])
            return faults[number % 8] if before < 1 + number % 2 else None

        with serving(FakeServer(fault=fault)) as server:
            report = run(config, server)
            assert server.keys == {None}
        assert_each_row_once(config)
        # Rows of even number fail once, those of odd number twice.
        assert report["language_model"]["requests"] == len(server.bodies) == ROWS // 2 * 2 + ROWS // 2 * 3
        assert report["language_model"]["prompt_tokens"] == 10 * ROWS
        assert load_split(str(config.folder), "train")["target"][3] == "ROW 3 OF THE DATA"
        assert {line["fingerprint"] for line in journal(config)} == {"fp_1"}

    def test_retry_after_is_waited_for(self, config: LabelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        waited: list[float] = []

        async def note(asking: client.Client, seconds: float) -> None:
            waited.append(seconds)

        monkeypatch.setattr(client.Client, "_pause", note)
        with serving(FakeServer(fault=lambda source, before: None if before else (429, "17"))) as server:
            run(config, server, n=3)
        assert waited == [17.0] * 3
        assert 0 < client._retry_after("Wed, 21 Oct 2037 07:28:00 GMT") <= client.LONGEST_RETRY_AFTER
        assert client._retry_after("soon") == client._retry_after("nan") == client._retry_after(None) == 0

    def test_who_waits_stops_with_the_others(self, config: LabelConfig) -> None:
        def fault(source: str, before: int) -> Any:
            return (429, "1000") if source.startswith("row 2 ") else None

        with serving(FakeServer(fault=fault)) as server, pytest.raises(RunError, match="`max_requests` 9 is used up"):
            run(config, server, concurrency=2, max_requests=9)

    def test_a_dead_server_ends_the_command_which_goes_on(self, config: LabelConfig) -> None:
        def dies(source: str, before: int) -> Any:
            return "drop" if sum(server.asked.values()) > 13 else None

        with serving(FakeServer(fault=dies)) as server, pytest.raises(RunError, match="does not answer.*go on"):
            run(config, server, concurrency=4, max_retries=1)
        before = journal(config)
        assert 9 <= len(before) <= 13 and not rows(config)
        with serving(FakeServer()) as server:
            report = run(config, server)
            assert len(server.bodies) == ROWS - len(before)
        assert_each_row_once(config)
        assert report["language_model"]["answers"] == ROWS

    def test_a_row_without_an_answer_does_not_keep_the_others_back(self, config: LabelConfig) -> None:
        never = FakeServer(fault=lambda source, before: "stall" if source.startswith("row 5 ") else None, latency=0.02)
        with serving(never) as server, pytest.raises(RunError, match=r"1 rows have no answer \(row 5: no answer with"):
            run(config, server, concurrency=2, max_retries=0)
        assert len(journal(config)) == ROWS - 1
        with serving(FakeServer()) as server:
            run(config, server)
            assert list(server.asked) == ["row 5 of the data"]
        assert_each_row_once(config)

    def test_rows_without_an_answer_can_be_done_without(self, config: LabelConfig) -> None:
        never = FakeServer(fault=lambda source, before: 500 if source.startswith("row 5 ") else None, latency=0.02)
        with serving(never) as server:
            report = run(config, server, concurrency=2, max_retries=1, skip_unanswered=True)
        assert report["language_model"]["refused"] == 1 and report["kept"] == ROWS - 1
        assert rows(config, "raw")[5]["target"] == ""

    @pytest.mark.parametrize(
        ("status", "words"), [(401, "`key_variable`"), (404, "name of the `model`"), (302, "check the URL")]
    )
    def test_a_server_that_refuses_all_is_told_in_one_line(self, config: LabelConfig, status: int, words: str) -> None:
        with serving(FakeServer(fault=lambda source, before: status)) as server:
            with pytest.raises(ConfigError, match=f"`server` .* answers with status {status}: .*{words}") as caught:
                run(config, server)
            assert len(server.bodies) <= config.concurrency
        assert "\n" not in str(caught.value)

    def test_prompts_that_are_refused_have_no_target(self, config: LabelConfig, caplog: Any) -> None:
        with serving(FakeServer(fault=lambda source, before: 400 if source.startswith("row 1") else None)) as server:
            report = run(config, server)
        refused = sum(str(i).startswith("1") for i in range(ROWS))
        assert report["language_model"]["refused"] == refused and report["kept"] == ROWS - refused
        assert f"{refused} prompts were refused" in caplog.text
        all_of_them = FakeServer(fault=lambda source, before: 422)
        other = replace(config, output_dir=f"{config.output_dir}-2")
        with serving(all_of_them) as server, pytest.raises(ConfigError, match="refuses all of the first 20 prompts"):
            run(other, server)
        assert not journal(other)


class TestLimits:
    def test_the_server_sees_so_many_at_once_and_never_more(self, config: LabelConfig) -> None:
        """Across the ends of shards, and while others wait before they ask again."""
        slow = FakeServer(latency=0.1, fault=lambda source, before: 503 if before == 0 and "7" in source else None)
        with serving(slow) as server:
            run(config, server, concurrency=16)
            assert server.most_at_once == 16
        assert_each_row_once(config)

    @pytest.mark.parametrize("budget", [{"max_requests": 11}, {"max_total_tokens": 11 * 15}])
    def test_a_budget_stops_and_goes_on(self, config: LabelConfig, budget: dict[str, int]) -> None:
        (name, limit), concurrency = next(iter(budget.items())), 4
        with serving(FakeServer()) as server:
            for _ in range(2):  # the second has nothing left to spend
                with pytest.raises(RunError, match=f"`{name}` {limit} is used up .*raise it, and repeat"):
                    run(config, server, concurrency=concurrency, **budget)
                assert len(journal(config)) == len(server.bodies)
                assert 11 <= len(server.bodies) < 11 + (concurrency if name == "max_total_tokens" else 1)
            report = run(config, server, **{name: 100 * limit})
            assert len(server.bodies) == ROWS == report["language_model"]["requests"]
        assert_each_row_once(config)

    def test_a_budget_of_tokens_needs_a_server_that_counts_them(self, config: LabelConfig) -> None:
        with serving(FakeServer()) as server:
            server.counts_tokens = False
            with pytest.raises(ConfigError, match="`max_total_tokens`: the `server` counts no tokens: set `max_req"):
                run(config, server, max_total_tokens=10**9)

    def test_one_process_asks(self, config: LabelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(command, "rank_and_world_size", lambda: (0, 2))
        with serving(FakeServer()) as server, pytest.raises(ConfigError, match="`server` is asked by one process"):
            run(config, server)

    def test_a_kill_costs_the_requests_in_flight(self, config: LabelConfig, tmp_path: Path) -> None:
        with serving(FakeServer(latency=0.05)) as server:
            job = Job(label, replace(config, server=server.url, concurrency=4), log=tmp_path / "log")
            while len(server.bodies) < 20:
                time.sleep(0.01)
            job.kill()
            assert job.wait() == -signal.SIGKILL
            kept = {line["row"] for line in journal(config)}
            assert len(kept) >= 12
            # As a power failure would leave it.
            journals = (config.folder / "answers").glob("*.jsonl")
            path = next(path for path in journals if path.read_bytes().count(b"\n") < SHARD)
            path.write_bytes(path.read_bytes() + b'{"row": 3, "sou')
            server.asked.clear()
            run(config, server)
            assert len(server.asked) == ROWS - len(kept) and max(server.asked.values()) == 1
        assert_each_row_once(config)


class TestRequests:
    def test_what_is_sent(self, config: LabelConfig) -> None:
        with serving(FakeServer()) as server:
            run(config, server, n=1, style="formal", shots=2)
            run(replace(config, output_dir=f"{config.output_dir}-2"), server, n=1, api="completions", shots=1)
        chat, completion = server.bodies
        question = (
            "Translate the text below from English into German.\nStyle: formal\nAnswer with the translation alone."
        )
        assert chat == {
            "model": "tiny-llm",
            "max_tokens": 142,
            "temperature": 0.0,
            "messages": [
                {"role": "user", "content": f"{question}\n\nexample 1"},
                {"role": "assistant", "content": "Beispiel 1"},
                {"role": "user", "content": f"{question}\n\nexample 4"},
                {"role": "assistant", "content": "Beispiel 4"},
                {"role": "user", "content": f"{question}\n\nrow 0 of the data"},
            ],
        }
        assert completion["stop"] == ["\n"]
        assert completion["prompt"] == ("English: example 2\nGerman: Beispiel 2\n\nEnglish: row 0 of the data\nGerman:")

    @pytest.mark.parametrize("ignores_n", [False, True])
    def test_candidates_that_are_missing_are_asked_for_one_by_one(self, config: LabelConfig, ignores_n: bool) -> None:
        answers = FakeServer(lambda source, draw: f"{source.upper()} {draw}", ignores_n=ignores_n)
        with serving(answers) as server:
            report = run(config, server, sample=True, n_best=3, keep="all", temperature=0.5, top_p=0.9, concurrency=1)
        assert report["language_model"]["answers"] == 3 * ROWS
        assert server.bodies[0]["n"] == 3 and (server.bodies[0]["temperature"], server.bodies[0]["top_p"]) == (0.5, 0.9)
        if ignores_n:
            assert len(server.bodies) == 3 * ROWS
            # The second request was on its way when the first was answered.
            assert not any("n" in body for body in server.bodies[2:])
            assert len({body["seed"] for body in server.bodies}) == 3 * ROWS
        else:
            assert len(server.bodies) == ROWS
            # The server sends the choices in reverse order.
            assert [row["target"] for row in rows(config)[:3]] == [f"ROW 0 OF THE DATA {draw}" for draw in range(3)]
        assert not any("top_k" in body for body in server.bodies)

    def test_answers_are_cleaned_and_counted(self, config: LabelConfig) -> None:
        def answer(source: str, draw: int) -> str:
            forms = (
                "<think>Hm: {}?</think>\n\n{}",
                "Sure! Here is the translation:\n\n{1}",
                "```\n{1}\n```",
                '"{1}"',
                "{1}\n\nNote: I kept the style.",
                "{1}",
            )
            return forms[int(source.split()[1]) % 6].format(source, source.upper())

        with serving(FakeServer(answer)) as server:
            counts = run(config, server)["language_model"]["cleaned"]
        assert_each_row_once(config)
        assert counts == {
            **{"reasoning": 7, "opening": 7, "fence": 7, "quotes": 7, "more_lines": 6},
            **{"invalid_characters": 0, "empty": 0},
        }

    def test_a_target_that_was_stopped_is_dropped(self, config: LabelConfig, caplog: Any) -> None:
        with serving(FakeServer()) as server:
            server.finish_reason = "length"
            with pytest.raises(ConfigError, match="the filters leave nothing"):
                run(config, server)
        report = json.loads((config.folder / "report.json").read_text("utf-8"))
        assert report["cut"]["targets"] == report["filters"]["drop_cut"]["removed"] == ROWS
        assert "stopped at 142 tokens" in caplog.text

    def test_a_dry_run_sends_and_writes_nothing(self, config: LabelConfig, capsys: Any) -> None:
        with serving(FakeServer()) as server:
            estimate = run(config, server, dry_run=True, max_target_length=50)
            assert not server.bodies
        assert not config.folder.exists()
        out, err = capsys.readouterr()
        assert json.loads(out) == estimate
        assert (estimate["requests"], estimate["answer_tokens_at_most"]) == (ROWS, 50 * ROWS)
        assert all(f"\n\nrow {i} of the data" in err for i in range(3)) and "row 3" not in err
        # Four bytes a token: the prompt above, with its role.
        assert 20 * ROWS < estimate["prompt_tokens"] < 40 * ROWS

    def test_other_options_need_another_folder(self, config: LabelConfig, tmp_path: Path) -> None:
        template = tmp_path / "prompt.txt"
        template.write_text("To {tgt_language}:\n{source}\n", "utf-8")
        with serving(FakeServer()) as server:
            run(config, server, n=2, concurrency=3)
            run(config, server, n=2, concurrency=5, max_requests=10)
            assert len(server.bodies) == 2
            with pytest.raises(ConfigError, match=r"was made with `prompt` .*, and this command has"):
                run(config, server, n=2, prompt=str(template))
            with pytest.raises(ConfigError, match=r"was made with `max_target_length` 142"):
                run(config, server, n=2, max_target_length=9)

    def test_settings_may_change_until_there_is_an_answer(self, config: LabelConfig) -> None:
        with serving(FakeServer(fault=lambda source, before: 404)) as server:
            with pytest.raises(ConfigError, match="name of the `model`"):
                run(config, server, model="mistyped")
            server.fault = lambda source, before: None
            other = LabelFolder(config.folder, "train", ROWS, SHARD)  # whose first answer may be on its way
            with other.held(), pytest.raises(ConfigError, match="is in use by another `distill label`"):
                run(config, server)
            with pytest.raises(RunError):
                run(config, server, max_requests=1)
            with pytest.raises(
                ConfigError, match="was made with `model` tiny-llm, and this command has mistyped: choo"
            ):
                run(config, server, model="mistyped")
            run(config, server)
        assert_each_row_once(config)

    def test_a_code_of_no_known_language_is_warned_of(self, config: LabelConfig, caplog: Any) -> None:
        dry = replace(config, server="http://localhost:1/v1", dry_run=True)
        label(replace(dry, tgt_lang="Swiss German"))
        label(replace(dry, task="summarization", tgt_lang="dee"))  # whose prompt names no language
        assert "known language" not in caplog.text
        label(replace(dry, tgt_lang="dee"))
        assert "`tgt_lang` dee is not the code of a known language" in caplog.text

    def test_a_line_of_another_source_is_refused(self, config: LabelConfig) -> None:
        with serving(FakeServer()) as server:
            with pytest.raises(RunError):
                run(config, server, max_requests=3, concurrency=1)
            path = config.folder / "answers" / "00000.jsonl"
            content = path.read_text("utf-8")
            path.write_text(content.replace('"row": 1', '"row": 2'), "utf-8")
            with pytest.raises(DataError, match="line 2 is of another source or prompt: remove the file"):
                run(config, server)
            path.write_text(f"damaged\n{content}", "utf-8")
            with pytest.raises(DataError, match="line 1 is damaged: remove the line"):
                run(config, server)


def log_probabilities(text: str, api: str) -> dict[str, Any]:
    """As OpenAI has them: a token for each word with the space before it, and the end of sentence."""
    words = [word if number == 0 else f" {word}" for number, word in enumerate(text.split(" "))]
    values = [-0.5 * (number + 1) for number in range(len(words) + 1)]
    if api == "chat":
        tokens = [
            {"token": word, "bytes": list(word.encode()), "logprob": v} for word, v in zip(words, values, strict=False)
        ]
        return {"content": [*tokens, {"token": "<|im_end|>", "bytes": None, "logprob": values[-1]}]}
    starts = [100 + len("".join(words[:number])) for number in range(len(words) + 1)]
    return {"tokens": [*words, "</s>"], "token_logprobs": values, "text_offset": starts}


class TestLogProbabilities:
    @pytest.mark.parametrize("api", ["chat", "completions"])
    def test_they_stand_beside_the_targets(self, config: LabelConfig, api: str) -> None:
        answers = FakeServer(lambda source, draw: f"Größe {source.split()[1]}", logprobs=log_probabilities)
        with serving(answers) as server:
            run(config, server, logprobs=True, api=api, min_score=-2.0)
            assert server.bodies[0]["logprobs"] == (True if api == "chat" else 1)
        for row in rows(config) + rows(config, "raw"):
            size = len(row["target"].encode())
            assert row["token_logprobs"] == [-0.5, -1.0, -1.5] and row["score"] == -1.0
            assert row["token_ends"] == [7, size, size + 1]

    def test_they_are_null_where_they_belong_to_another_text(self, config: LabelConfig) -> None:
        def answer(source: str, draw: int) -> str:
            return source.upper() if "7" in source else f"Translation: {source.upper()}"

        def partly(text: str, api: str) -> dict[str, Any]:
            """The first word and a half are one token."""
            return {"content": [{"token": t, "bytes": None, "logprob": -1.0} for t in (text[:15], text[15:])]}

        with serving(FakeServer(answer, logprobs=partly)) as server:
            run(config, server, logprobs=True)
        assert_each_row_once(config)
        assert all((row["token_ends"] is None) == ("7" not in row["source"]) for row in rows(config))

    def test_a_server_that_gives_none_is_refused_at_once(self, config: LabelConfig) -> None:
        with serving(FakeServer()) as server:
            with pytest.raises(ConfigError, match="`logprobs`: the `server` gives no log-probabilities: leave it out"):
                run(config, server, logprobs=True, concurrency=1)
            assert len(server.bodies) == 1
        assert not journal(config)


class TestKey:
    def test_it_is_sent_and_appears_nowhere(
        self, config: LabelConfig, monkeypatch: pytest.MonkeyPatch, capsys: Any, caplog: Any
    ) -> None:
        monkeypatch.setenv("MY_KEY", KEY)
        caplog.set_level(logging.DEBUG)

        def fault(source: str, before: int) -> Any:
            return [429, 500, "drop", None][before] if "7" in source else None

        with serving(FakeServer(lambda source, draw: f"{source} {KEY}", fault)) as server:
            run(config, server, key_variable="MY_KEY")
            assert server.keys == {f"Bearer {KEY}"}
            server.fault = lambda source, before: 401
            with pytest.raises(ConfigError, match="status 401 for Bearer ") as caught:
                run(replace(config, output_dir=f"{config.output_dir}-2"), server, key_variable="MY_KEY")
            server.fault = lambda source, before: 500
            with pytest.raises(RunError, match="does not answer") as failed:
                run(config, server, key_variable="MY_KEY", max_retries=0, split="val", output_dir=f"{config.folder}-3")
        texts = [str(caught.value), str(failed.value), caplog.text, *capsys.readouterr()]
        files = [path for path in config.folder.parent.rglob("*") if path.is_file()]
        assert len(files) > 10
        assert not any(KEY in text for text in texts)
        assert not any(KEY.encode() in path.read_bytes() for path in files)
        assert "***" in rows(config)[0]["target"]

    def test_a_word_that_is_sent_as_a_key_stays_in_answers(
        self, config: LabelConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "ROW")
        with serving(FakeServer()) as server:
            run(config, server)
        assert_each_row_once(config)

    def test_that_of_a_url_appears_nowhere_either(self, config: LabelConfig, capsys: Any, caplog: Any) -> None:
        with serving(FakeServer()) as server:
            url = server.url.replace("//", "//user:pa55word@")
            label(replace(config, server=url))
            server.fault = lambda source, before: 404
            with pytest.raises(ConfigError) as caught:
                label(replace(config, server=url, output_dir=f"{config.output_dir}-2"))
            assert {str(key).partition(" ")[0] for key in server.keys} == {"Basic"}
        texts = [str(caught.value), caplog.text, *capsys.readouterr()]
        files = [path for path in config.folder.parent.rglob("*") if path.is_file()]
        assert not any("pa55word" in text for text in texts)
        assert not any(b"pa55word" in path.read_bytes() for path in files)

    def test_a_key_in_place_of_its_variable_is_not_shown(self, config: LabelConfig) -> None:
        (problem,) = find_problems(replace(config, server="http://localhost:1/v1", key_variable=KEY))
        assert "ends with KEY" in problem.message and KEY not in problem.message


MISTAKES: list[tuple[list[str], str]] = [
    (["--max_tokens", "64"], "--max_tokens 64 does not apply to a model behind --server: leave it out"),
    (["--beams", "4"], "--beams 4 does not apply to a model behind --server"),
    (["--targets", "reference"], "--targets reference does not apply to a model behind --server"),
    (["--n_best", "4"], "--n_best 4 gives a model behind --server equal answers: add --sample true"),
    (["--min_score", "-1"], "--min_score -1.0 needs scores: add --logprobs true"),
    (["--generate", '{"n": 3}'], "--generate n is set by other options: remove it"),
    (["--shots_data", "x"], "--shots_data is not used: add --shots"),
    (["--shots", "9"], "--shots 9 needs 10 pairs, and there are 8: lower it"),
    (["--server", "localhost:8000"], "--server localhost:8000 is no URL of a server: give one such as http://"),
    (["--server", "http://x/v1?key=1"], "--server has a query, which is not shown: give the base URL alone"),
    (["--prompt", "{tmp}/none.txt"], "none.txt: No such file or directory: name a text file"),
    (["--prompt", "{tmp}/no_source.txt"], "no_source.txt has no {source}: write it where"),
    (["--prompt", "{tmp}/unknown.txt"], "unknown.txt: {sorce} is unknown: choose among {source}"),
    (["--prompt", "{tmp}/plain.txt", "--style", "formal"], "has no {style} for --style formal: add it"),
]


@pytest.mark.parametrize(("more", "words"), MISTAKES, ids=[" ".join(more) for more, _ in MISTAKES])
def test_mistakes(config: LabelConfig, tmp_path: Path, capsys: Any, more: list[str], words: str) -> None:
    for name, text in (("no_source", "hello"), ("unknown", "{source} {sorce}"), ("plain", 'JSON {"a": 1}: {source}')):
        (tmp_path / f"{name}.txt").write_text(text, "utf-8")
    arguments = ["label", "--model", "m", "--data", *config.data]
    arguments += [] if "--server" in more else ["--server", "http://localhost:1/v1"]
    arguments += ["--output_dir", str(tmp_path / "out"), "--task", "translation", "--src_lang", "en"]
    arguments += ["--tgt_lang", "de", *(item.replace("{tmp}", str(tmp_path)) for item in more)]
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("distill: ")]) == 1 and words in lines[-1]
    assert not (tmp_path / "out").exists()


def test_options_of_a_server_need_one(config: LabelConfig) -> None:
    (problem,) = find_problems(replace(config, timeout=600.0, max_requests=3))
    assert problem.message == "`max_requests` 3 is for a server: add `server`, or leave it out"
