"""COMET scores from a Python of their own: unbabel-comet needs older libraries than this project."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from seq2seq_distill.utils.errors import ConfigError, format_value

SCRIPT = """
import json, os, sys
from comet import download_model, load_from_checkpoint
with open(sys.argv[1], encoding="utf-8") as file:
    job = json.load(file)
name = job["model"]
model = load_from_checkpoint(name if os.path.isfile(name) else download_model(name))
scores = model.predict(job["segments"], batch_size=job["batch_size"], gpus=job["gpus"], progress_bar=False).scores
with open(sys.argv[2], "w", encoding="utf-8") as file:
    json.dump([float(score) for score in scores], file)
"""
"""Run by the other Python, which has nothing of ours."""


def comet_scores(
    python: str,
    model: str,
    sources: Sequence[str],
    systems: Sequence[Sequence[str]],
    references: Sequence[str],
    batch_size: int,
    gpu: bool,
) -> list[list[float]]:
    """COMET (arXiv 2009.09025) of every output of every system, times 100.

    Raises:
        ConfigError: the other Python is not there, or fails; with its last line.
    """
    segments = [
        {"src": source, "mt": text, "ref": reference}
        for outputs in systems
        for source, text, reference in zip(sources, outputs, references, strict=True)
    ]
    job = {"model": model, "segments": segments, "batch_size": batch_size, "gpus": int(gpu)}
    with tempfile.TemporaryDirectory() as place:
        given, found = Path(place) / "in.json", Path(place) / "out.json"
        given.write_text(json.dumps(job), "utf-8")
        try:
            done = subprocess.run(
                [str(Path(python).expanduser()), "-c", SCRIPT, str(given), str(found)],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise ConfigError(f"`comet_python` {python}: {error.strerror}: name an interpreter") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ConfigError(
                f"`comet_python` {python} cannot score with `comet` {model} ({format_value(last)}): "
                "pip install unbabel-comet there, or leave `comet` out"
            )
        scores = [100 * score for score in json.loads(found.read_text("utf-8"))]
    rows = len(references)
    return [scores[start : start + rows] for start in range(0, len(scores), rows)]
