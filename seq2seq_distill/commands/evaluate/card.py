"""The figures of an evaluation in the model card of a run's best student, where people and the hub look for them."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from seq2seq_distill.commands.evaluate.tables import markdown
from seq2seq_distill.config.tasks import TITLES
from seq2seq_distill.utils.files import write_text

SECTION = "## Evaluation"


def add_evaluation(folder: Path, results: Mapping[str, Any], name: str) -> None:
    """Put the tables and, as the metadata `model-index`, the model's scores into README.md of a model's folder.

    What it says of an earlier evaluation gives way; scores on other data stay in the metadata.

    Args:
        folder: of the model; without a README.md there nothing is done.
        results: as results.json holds them.
        name: the model's among them.
    """
    path = folder / "README.md"
    if not path.is_file():
        return
    card = ModelCard(path.read_text("utf-8"))
    own = list(_eval_results(results, name))
    places = {_place(result) for result in own}
    data: Any = card.data
    data.eval_results = [old for old in data.eval_results or [] if _place(old) not in places] + own
    data.model_name = data.model_name or name
    before = re.split(rf"^{SECTION}$", card.text, flags=re.MULTILINE)[0].rstrip()
    sources = ", ".join(f"`{source}`" for source in results["data"])
    intro = f"{results['examples']} examples of {sources}, split {results['split']}; this model is {name}."
    card.text = "\n".join([before, "", SECTION, "", intro, "", *markdown(results)]) + "\n"
    write_text(path, str(card))


def _eval_results(results: Mapping[str, Any], name: str) -> Iterator[EvalResult]:
    model = next(model for model in results["models"] if model["name"] == name)
    data, _, part = results["data"][0].partition(":") if len(results["data"]) == 1 else ("several", "", "")
    if results["data"][0].startswith("demo:"):
        data, part = results["data"][0], ""
    for metric, score in model["scores"].items():
        yield EvalResult(
            task_type=results["task"],
            dataset_type=Path(data).name if Path(data).is_dir() else data,
            dataset_name=Path(data).name,
            dataset_config=part or None,
            dataset_split=results["split"],
            metric_type="rouge" if metric.startswith("rouge") else metric.lower(),
            metric_name=TITLES.get(metric, metric),
            metric_value=round(score["score"], 2),
        )


def _place(result: EvalResult) -> tuple[str | None, ...]:
    return result.dataset_type, result.dataset_config, result.dataset_split
