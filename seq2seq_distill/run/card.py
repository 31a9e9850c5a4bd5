"""The model card that goes with every saved student."""

from collections.abc import Mapping
from typing import Any

import yaml

from seq2seq_distill.config import RunConfig
from seq2seq_distill.run.results import markdown_table, signature

USAGE = """\
```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSeq2SeqLM.from_pretrained(folder)
ids = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens={max_new_tokens})
print(tokenizer.decode(ids[0], skip_special_tokens=True))
```"""


def model_card(config: RunConfig, results: Mapping[str, Any] | None = None) -> str:
    """Markdown with metadata: what the student is, how to use it and, once tested, what it kept and gained."""
    metadata: dict[str, Any] = {"library_name": "transformers", "tags": [config.task, "distillation"]}
    if config.teacher:
        metadata["base_model"] = config.teacher
    origin = f"Distilled from `{config.teacher}`" if config.teacher else "Trained"
    how = {"kd": "knowledge distillation", "sft": "shrink and fine-tune"}[config.method]
    lines = [
        "---",
        yaml.safe_dump(metadata, sort_keys=False).strip(),
        "---",
        "",
        f"# A student for {config.task}",
        "",
        f"{origin} on {', '.join(f'`{source}`' for source in config.data or [])}"
        + (f" by {how}" if config.teacher else "")
        + ", with seq2seq_distill.",
        "",
        USAGE.format(max_new_tokens=config.eval.max_target_length),
    ]
    if results is not None:
        how_scored = signature(str(config.task), config.tgt_lang)
        lines += ["", "## Test results", "", *markdown_table(results), "", f"Scores: {how_scored}."]
    return "\n".join(lines) + "\n"
