"""How long a label set will take: from a sample of its rows."""

from time import perf_counter

from seq2seq_distill.training.labels.labelling import Labelling
from seq2seq_distill.training.labels.teacher import LabelTeacher
from seq2seq_distill.utils.distributed import rank_and_world_size

SAMPLE_ROWS = 256
"""Most rows of the sample."""
SAMPLE_BATCHES = 2
"""Most batches of the sample."""
SAMPLE_SHARE = 20
"""The sample is at most one row of so many."""
WARM_UP = 2
"""Rows that are decoded beforehand."""


def estimate_seconds(labelling: Labelling) -> float:
    """What the shards that are missing will take, in seconds, all processes of torchrun or SLURM together."""
    folder = labelling.folder
    missing = [row for shard in folder.shards if not labelling.labeller.has(shard) for row in folder.rows(shard)]
    if not missing:
        return 0.0
    sources = _sample(labelling, missing)
    labelling.labeller.candidates(sources[:WARM_UP])
    start = perf_counter()
    labelling.labeller.candidates(sources)
    return (perf_counter() - start) / len(sources) * len(missing) / rank_and_world_size()[1]


def _sample(labelling: Labelling, rows: list[int]) -> list[str]:
    """Sources of some of the rows, evenly spaced, and no more than a few batches of them."""
    assert isinstance(labelling.teacher, LabelTeacher)
    number = max(1, min(SAMPLE_ROWS, len(rows) // SAMPLE_SHARE))
    chosen = [rows[index * len(rows) // number] for index in range(number)]
    sources: list[str] = labelling.rows.labelled[chosen]["source"]
    mean_length = sum(map(len, labelling.teacher.loaded.encode(sources))) / number
    fitting = max(1, int(SAMPLE_BATCHES * labelling.config.max_tokens / max(1.0, mean_length)))
    step = -(-number // min(number, fitting))
    return sources[::step]
