"""How much faster a student decodes than its teacher, on the same inputs, one at a time, in turn.

    python -m benchmarks.decoding                                   # 1-layer students cut from the built-in teachers
    python -m benchmarks.decoding --task translation --student DIR  # a trained one, against --teacher

Prints one JSON line per task. The ratio compares milliseconds per generated token. An untrained student is sufficient,
because the time per token does not depend on the values of the weights.
"""

import argparse
import json

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.sources import load_split
from seq2seq_distill.decoding.generation import GenerationSettings
from seq2seq_distill.metrics.cost import measure_decoding, speedup
from seq2seq_distill.shrink.student import create_student


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("summarization", "translation"), help="one task instead of both")
    parser.add_argument("--teacher", help="teacher folder (default: the built-in teacher of the task)")
    parser.add_argument("--student", help="student folder (default: an untrained student with one decoder layer)")
    parser.add_argument("--data", help="data folder (default: the built-in data of the task)")
    parser.add_argument("-n", type=int, default=200, help="number of test inputs")
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--max_length", type=int, default=40)
    arguments = parser.parse_args()
    for task in [arguments.task] if arguments.task else ["summarization", "translation"]:
        own = f"demo:{task}"
        path = arguments.teacher or str(demo.resolve_teacher(own))
        teacher = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=torch.float32)
        student = (
            AutoModelForSeq2SeqLM.from_pretrained(arguments.student, dtype=torch.float32)
            if arguments.student
            else create_student(teacher, decoder_layers=1)
        )
        texts = load_split(arguments.data or str(demo.resolve_data(own)), "test")["source"][: arguments.n]
        settings = GenerationSettings(beams=arguments.beams, max_length=arguments.max_length)
        print(
            json.dumps(ratio(task, student, teacher, AutoTokenizer.from_pretrained(path), texts, settings)), flush=True
        )


def ratio(
    task: str,
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    settings: GenerationSettings,
) -> dict[str, object]:
    """The benchmark's JSON line."""
    collate = Collator(tokenizer.pad_token_id)
    inputs = [collate([{"input_ids": tokenizer(text)["input_ids"], "row": i}]) for i, text in enumerate(texts)]
    timed = measure_decoding({"teacher": teacher, "student": student}, inputs, settings)
    return {
        "benchmark": "decoding",
        "task": task,
        "inputs": len(inputs),
        "beams": settings.beams,
        "threads": torch.get_num_threads(),
        "teacher_over_student_ms_per_token": round(speedup(timed["teacher"], timed["student"]), 3),
        **{f"{name}_mean_length": round(own.mean_length, 2) for name, own in timed.items()},
        **{f"{name}_latency_ms": round(own.latency_ms, 2) for name, own in timed.items()},
    }


if __name__ == "__main__":
    main()
