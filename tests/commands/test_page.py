"""An exported folder under node and in a browser, with transformers.js: outputs equal those of onnxruntime."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from seq2seq_distill import demo
from seq2seq_distill.commands.export.formats import FORMATS
from seq2seq_distill.commands.export.options import ExportConfig
from seq2seq_distill.commands.export.page import SERVE, TRANSFORMERS_JS, write_page
from seq2seq_distill.config.decoding import DecodingOptions
from seq2seq_distill.data.sources import load_split
from seq2seq_distill.decoding.generation import GenerationSettings
from seq2seq_distill.decoding.loading import load_model
from seq2seq_distill.decoding.text_generator import load_decoder
from seq2seq_distill.utils.files import write_json

TOOLS = Path(__file__).parents[1] / "browser"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SENTENCES = 6


@pytest.fixture(scope="module")
def packages() -> Path:
    if not (TOOLS / "node_modules" / "@huggingface" / "transformers").is_dir():
        pytest.skip("needs transformers.js: run `make node`")
    return TOOLS / "node_modules"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, packages: Path) -> Path:
    """The built-in translation teacher, as `distill export --format onnx --page` writes it."""
    folder = tmp_path_factory.mktemp("page") / "served"
    folder.mkdir()
    languages = {"task": "translation", "src_lang": "en", "tgt_lang": "de"}
    options = DecodingOptions(**languages, beams=2)
    loaded = load_model("demo:translation", "model", options, GenerationSettings.of_command(options))
    saved = FORMATS["onnx"].save(folder, loaded, "float32", [], "--format onnx", [])
    write_page(folder, ExportConfig(model="", output_dir="", format="onnx", **languages), loaded)
    lengths = {"max_source_length": loaded.max_length, "max_target_length": loaded.generation.max_length - 1}
    write_json(folder / "export.json", {**languages, **lengths, **saved, "format": "onnx", "prefix": loaded.prefix})
    return folder


@pytest.fixture(scope="module")
def sources() -> list[str]:
    """The last one is longer than the model reads: transformers.js alone cuts off its end token too."""
    texts = load_split(demo.data_source("demo:translation"), "test", limit=SENTENCES)["source"][:]
    return [*texts, " and ".join(text.rstrip(".") for text in texts * 4)]


@pytest.fixture(scope="module")
def expected(folder: Path, sources: list[str]) -> list[str]:
    """Greedy: transformers.js has no beams."""
    return load_decoder(folder, beams=1)(sources)


def test_page_and_package_name_one_version():
    package = json.loads((TOOLS / "package.json").read_text())
    assert package["dependencies"] == {"@huggingface/transformers": TRANSFORMERS_JS}


def test_the_commands_that_serve_the_page_are_documented():
    page = (TOOLS.parents[1] / "docs" / "export.md").read_text("utf-8")
    assert all(f"\n    {command}\n" in page for command in SERVE.split(" && "))


def test_under_node(folder, sources, expected, tmp_path):
    if shutil.which("node") is None:
        pytest.skip("no node here")
    file = tmp_path / "in.txt"
    file.write_text("".join(f"{text}\n" for text in sources), "utf-8")
    command = ["node", "generate.mjs", str(folder), str(file)]
    done = subprocess.run(command, cwd=TOOLS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address(folder: Path, packages: Path) -> Iterator[str]:
    """Of the page, with npm's files beside it."""
    link = folder / "node_modules"
    link.unlink(missing_ok=True)
    link.symlink_to(packages.resolve())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_in_a_browser(address, sources, expected):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 380, "height": 800})
        said, asked = [], []
        view.on("console", lambda message: said.append(message.text))
        view.on("pageerror", lambda error: said.append(str(error)))
        view.on("request", lambda request: asked.append(request.url))
        view.goto(address)
        view.wait_for_function("!document.getElementById('go').disabled", timeout=120_000)
        view.fill("#source", "\n".join([*sources[:2], "", *sources[2:]]))
        view.click("#go")
        view.wait_for_function("!document.getElementById('go').disabled", timeout=240_000)
        outputs, state = view.text_content("#target"), view.text_content("#state")
        title = view.title()
        wide, screen = view.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        browser.close()
    assert outputs.split("\n") == [*expected[:2], "", *expected[2:]]
    assert re.fullmatch(rf"{len(sources)} of {len(sources)}, \d+\.\d\d s per sentence", state)
    assert wide <= screen and said == [] and title == "Translate English to German"
    assert all(url.startswith((address, "blob:", "data:")) for url in asked), "the text stays on this computer"
