"""The model card that goes with every saved student."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from transformers import PreTrainedConfig

from seq2seq_distill.config import RunConfig
from seq2seq_distill.shrink.student import describe_cut
from seq2seq_distill.training.results import how_scored, markdown_table

USAGE = """\
```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSeq2SeqLM.from_pretrained(folder)
ids = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens={max_new_tokens})
print(tokenizer.decode(ids[0], skip_special_tokens=True))
```"""


def model_card(
    config: RunConfig, student: PreTrainedConfig | None = None, results: Mapping[str, Any] | None = None
) -> str:
    """Markdown with metadata: what the student is, how to use it and, once tested, what it kept and gained."""
    tasks = config.each_task()
    kinds, how = " and ".join(config.kinds), {"kd": "knowledge distillation", "sft": "shrink and fine-tune"}
    teachers = list(dict.fromkeys(own.teacher for own in tasks if own.teacher))
    metadata: dict[str, Any] = {"library_name": "transformers", "tags": [*config.kinds, "distillation"]}
    if teachers:
        metadata["base_model"] = teachers if len(teachers) > 1 else teachers[0]
    cut = describe_cut(student) if student is not None and teachers else None
    origin = f"Distilled from {_quoted(teachers)}" if teachers else "Trained"
    lines = [
        "---",
        yaml.safe_dump(metadata, sort_keys=False).strip(),
        "---",
        "",
        f"# A student for {kinds}",
        "",
        f"{origin} on {_quoted(config.sources)}"
        + (f" by {how[config.method]}" if teachers else "")
        + ", with seq2seq_distill."
        + (" Its vocabulary was reduced to the pieces that this data needs." if config.trim.is_on else ""),
        *(["", f"Cut from the teacher, counted from 0: {cut}."] if cut else []),
        "",
        USAGE.format(max_new_tokens=config.eval.max_target_length),
    ]
    if results is not None:
        lines += ["", "## Test results", "", *markdown_table(results)]
        for name, own in results.get("tasks", {}).items():
            lines += ["", f"### {name}", "", *markdown_table(own)]
        lines += ["", f"Scores: {how_scored(results)}."]
    return "\n".join(lines) + "\n"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
