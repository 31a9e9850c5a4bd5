"""Fill a cache with the teacher's outputs, and train from it without the teacher."""

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from seq2seq_distill.config import RunConfig, RunnerOptions
from seq2seq_distill.data.batching import BatchPlan
from seq2seq_distill.data.length_batches import lengths
from seq2seq_distill.data.teacher_cache import Contents, TeacherCache, pack
from seq2seq_distill.decoding.generation import to_device
from seq2seq_distill.decoding.likelihood import LOGITS
from seq2seq_distill.losses.sparse import drawn_tokens, top_tokens
from seq2seq_distill.models import forward
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.training.components import RunComponents, build_components
from seq2seq_distill.training.device import autocast_of, device_of_run
from seq2seq_distill.training.runners.fill import fill_shards
from seq2seq_distill.training.runners.work import Fill, Work
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.distributed import rank_and_world_size
from seq2seq_distill.utils.errors import ConfigError
from seq2seq_distill.utils.locks import wait_until
from seq2seq_distill.utils.progress import Progress

logger = logging.getLogger(__name__)

Shard = tuple[str, int]
"""Split and first row."""
LOCAL = RunnerOptions()

CACHED_SPLITS = ("train", "val")
MAX_TOKENS = 8192
"""Source and target tokens of a batch, padding counted."""


def with_cache(config: RunConfig, parts: RunComponents) -> RunComponents:
    """The components of a run that learns from its cache, which is filled first; the teacher is released.

    Raises:
        ConfigError: the cache is of something else; or it is not full, and there is no teacher.
    """
    cache = open_cache(config, parts)
    missing = cache.missing()
    if missing and parts.teacher is None:
        raise ConfigError(
            f"`teacher_cache` {cache.folder} lacks {len(missing)} of {len(cache.shards)} shards: "
            "fill it by `distill cache`, or add `teacher`"
        )
    if parts.teacher is not None:
        fill(cache, parts, config)
    parts.data.cached = {split: cache.split(split) for split in CACHED_SPLITS}
    return parts.without_teachers()


def open_cache(config: RunConfig, parts: RunComponents) -> TeacherCache:
    """The cache that the config names, of these parts."""
    model = parts.student if parts.teacher is None else parts.teacher.model
    contents = Contents(
        vocabulary=len(forward.output_head(model).weight),
        temperature=config.loss.resolved().temperature,
        top_k=config.cache.top_k,
        draws=config.cache.draws,
        precision=config.cache.precision,
    )
    encoded = {split: parts.tasks[0].teacher_view.data.encoded[split] for split in CACHED_SPLITS}
    fingerprint = None if parts.teacher is None else parts.teacher.fingerprint()
    return TeacherCache(Path(str(config.teacher_cache)).expanduser(), contents, encoded, fingerprint)


def fill(cache: TeacherCache, parts: RunComponents, config: RunConfig, runner: RunnerOptions = LOCAL) -> None:
    """Compute what is missing; with several processes, each its share, and wait for the others'."""
    rank, world_size = rank_and_world_size()
    # Each process has shards of its own, whatever the others have written when it comes to look.
    own, missing = cache.shards[rank::world_size], set(cache.missing())
    if not missing:
        return
    logger.info("teacher cache: %d of %d shards must be filled", len(missing), len(cache.shards))
    assert parts.teacher is not None
    work = Work(
        [shard for shard in own if shard in missing],
        fill=partial(_fill, cache, parts, config),
        make=OpenCache(replace(config, output_dir=str(config.folder.absolute())), cache.folder.absolute()),
        name=_name,
        option="`teacher_cache`",
        folder=cache.folder.absolute(),
    )
    with Progress("caching teacher outputs", sum(len(cache.rows_of(*shard)) for shard in work.shards)) as progress:
        fill_shards(work, runner, lambda shard: progress.advance(len(cache.rows_of(*shard))))
    parts.teacher.to("cpu")
    wait_until(lambda: not cache.missing(), "filling the teacher cache")


def _name(shard: Shard) -> str:
    return "{}, rows from {} on".format(*shard)


@dataclass(frozen=True)
class OpenCache:
    """Makes, in a worker, what fills a shard of the cache of a run."""

    config: RunConfig
    folder: Path

    def __call__(self) -> Fill[Shard]:
        config = replace(self.config, teacher_cache=str(self.folder))
        parts = build_components(config)
        return partial(_fill, open_cache(config, parts), parts, config)


def _fill(cache: TeacherCache, parts: RunComponents, config: RunConfig, shard: Shard) -> None:
    """Compute and write a shard."""
    assert parts.teacher is not None
    parts.teacher.to(device_of_run(config.trainer))
    cache.write(*shard, _outputs(cache, parts, parts.teacher, config, *shard))


@torch.no_grad()
def _outputs(
    cache: TeacherCache, parts: RunComponents, teacher: Teacher, config: RunConfig, split: str, first: int
) -> list[dict[str, torch.Tensor]]:
    """The fields of a shard's rows, in order."""
    device = next(teacher.model.parameters()).device
    generator = torch.Generator(device).manual_seed(2 * first + CACHED_SPLITS.index(split))
    found: dict[int, dict[str, torch.Tensor]] = {}
    for rows in batches_of_rows(parts, split, cache.rows_of(split, first)):
        hidden, counts = labelled_states(parts, teacher, config, split, rows)
        pieces = [_compress(cache.contents, teacher, piece, generator) for piece in logit_chunks(teacher, hidden)]
        fields = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
        columns = {name: field.split(counts) for name, field in fields.items()}
        for index, row in enumerate(rows):
            found[row] = {name: column[index] for name, column in columns.items()}
    return [found[row] for row in cache.rows_of(split, first)]


def labelled_states(
    parts: RunComponents, teacher: Teacher, config: RunConfig, split: str, rows: list[int]
) -> tuple[torch.Tensor, list[int]]:
    """The teacher's last hidden states [N, H] at all positions of some rows that have a label, and their number in each
    row; in the precision of the training."""
    device = next(teacher.model.parameters()).device
    batch = to_device(parts.tasks[0].teacher_view.data.collated(split, rows), device)
    labelled = batch["labels"] != IGNORE_INDEX
    with autocast_of(config.trainer, device):
        inputs = forward.decoder_inputs(teacher.model, batch["labels"])
        return teacher.decode(batch, teacher.encode(batch), inputs)[labelled], labelled.sum(1).tolist()


def batches_of_rows(parts: RunComponents, split: str, rows: range) -> list[list[int]]:
    """Rows of like length together."""
    encoded = parts.tasks[0].teacher_view.data.encoded[split].select(rows)
    source, target = lengths(encoded, "input_ids"), lengths(encoded, "labels")
    plan = BatchPlan(source, target, size=len(rows), max_tokens=MAX_TOKENS)
    return [(rows.start + step).tolist() for step in plan.steps(0)]


def logit_chunks(teacher: Teacher, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Hidden states [N, H] in parts whose logits fit into memory."""
    return hidden.split(max(1, LOGITS // len(forward.output_head(teacher.model).weight)))


def _compress(
    contents: Contents, teacher: Teacher, hidden: torch.Tensor, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    log_probabilities = (teacher.head(hidden).float() / contents.temperature).log_softmax(-1)
    if contents.draws is None:
        outputs = top_tokens(log_probabilities, contents.top_k)
    else:
        outputs = drawn_tokens(log_probabilities, contents.draws, generator)
    return {name: field.cpu() for name, field in pack(*outputs, contents).items()}
