"""The shortlist of an exported model: learned from training pairs, chosen on the model's outputs, and compared."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.commands.evaluate.scores import loss_of_main_score
from seq2seq_distill.commands.export.options import ExportConfig
from seq2seq_distill.commands.inputs import load_rows
from seq2seq_distill.config.run_record import read_run_record
from seq2seq_distill.config.tasks import TASKS, TITLES
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import is_label_set
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.decoding.ctranslate2_decoder import CTranslate2Decoder
from seq2seq_distill.decoding.decoder import Decoder, Hypothesis
from seq2seq_distill.decoding.loading import LoadedModel
from seq2seq_distill.decoding.shortlist.candidates import BEST, FREQUENT, CandidateRanks, choose, measure
from seq2seq_distill.decoding.shortlist.model1 import learn_lexicon
from seq2seq_distill.decoding.shortlist.vmap import write_vmap
from seq2seq_distill.training.output_folder import OutputFolder
from seq2seq_distill.utils.errors import ModelError

logger = logging.getLogger(__name__)

MAX_PAIRS = 500_000
"""Training pairs that are encoded at most; of more, every n-th."""
MAX_TEXTS = 1000
"""Texts on which a shortlist is chosen and compared, at most."""
LEAST_FREQUENT = {"translation": 0, "summarization": 1000}
"""The fewest frequent pieces: long sources say less about the words of their summaries than sentences do about those
of their translations."""
RESAMPLES, SEED = EvaluateConfig.resamples, EvaluateConfig.seed
"""Of the interval of the loss."""


def add_shortlist(
    folder: Path, config: ExportConfig, pairs: Dataset, loaded: LoadedModel, first: Sequence[int], texts: Dataset
) -> dict[str, Any]:
    """Write the shortlist of a converted model into its folder; what export.json says of it.

    Args:
        folder: as `save_converted` fills it.
        config: the options.
        pairs: sources and targets to learn from.
        loaded: the model.
        first: ids of the tokens that have the first rows.
        texts: sources with references; the first `MAX_TEXTS` are used.

    Raises:
        ModelError: it costs more of the score than is allowed.
    """
    texts = texts.select(range(min(MAX_TEXTS, len(texts))))
    whole = CTranslate2Decoder(folder, loaded, shortlist=False)
    ranks = learn_ranks(loaded, pairs, config.target_limit, whole.vocabularies, first)
    sources = loaded.encode(texts["source"])
    before = _decoded(whole, sources)
    shortlists = measure(ranks, sources, [best.ids for best in before], FREQUENT, BEST)
    chosen = choose(shortlists, config.shortlist_coverage, LEAST_FREQUENT[str(config.task)])
    if chosen.mean_candidates > ranks.vocabulary / 2:
        logger.warning(
            "the shortlist has %.0f of %d pieces on average, which gains little: lower `shortlist_coverage` %s, or "
            "export without it",
            chosen.mean_candidates,
            ranks.vocabulary,
            config.shortlist_coverage,
        )
    write_vmap(folder, ranks, chosen, whole.vocabularies)
    # One at a time: candidates are those of all sources of a batch together.
    after = _decoded(CTranslate2Decoder(folder, loaded, batch_size=1, shortlist=True), sources)
    return {
        "pairs": len(pairs),
        **asdict(chosen),
        "vocabulary": ranks.vocabulary,
        **_compared(config, before, after, texts["target"]),
    }


def labels_of_run(model: str) -> list[str]:
    """The label set that the run of a model has written for its training; none for any other model."""
    if read_run_record(model).get("targets") not in ("teacher", "both"):
        return []
    labels = str(OutputFolder(Path(model).expanduser().resolve().parent).labels)
    return [labels] if is_label_set(labels) else []


def training_pairs(data: Sequence[str], columns: Columns) -> Dataset:
    """The training split of the label sets among the sources, or of all where there is none; at most `MAX_PAIRS`."""
    labels = [source for source in data if is_label_set(source)]
    pairs = load_rows(labels or data, "train", columns)
    step = -(-len(pairs) // MAX_PAIRS)
    return pairs if step == 1 else pairs.select(range(0, len(pairs), step))


def learn_ranks(
    loaded: LoadedModel,
    pairs: Dataset,
    target_limit: int,
    vocabularies: tuple[Sequence[str], Sequence[str]],
    first: Sequence[int],
) -> CandidateRanks:
    """Target pieces ranked by training pairs.

    Args:
        loaded: encodes the pairs.
        pairs: with the columns source and target.
        target_limit: most tokens of a target.
        vocabularies: the tokens of sources and of targets, by id.
        first: ids of the targets that are candidates always.
    """
    special = np.array(first, np.int64)
    targets = TextEncoder(loaded.tokenizer, "text_target", target_limit)
    source_rows, target_rows = (
        encoder.encode(pairs[side]).rows.without(special)
        for encoder, side in ((loaded.encoder, "source"), (targets, "target"))
    )
    return CandidateRanks(learn_lexicon(source_rows, target_rows), target_rows, vocabularies, special)


def _decoded(decoder: Decoder, sources: Sequence[Sequence[int]]) -> list[Hypothesis]:
    return [best for best, *_ in decoder.decode(sources, with_scores=False)]


def _compared(
    config: ExportConfig, before: Sequence[Hypothesis], after: Sequence[Hypothesis], references: Sequence[str]
) -> dict[str, Any]:
    """How many outputs stayed, and what the score has lost."""
    task = str(config.task)
    first, second = ([best.text for best in outputs] for outputs in (before, after))
    loss = loss_of_main_score(task, first, second, references, config.tgt_lang, RESAMPLES, SEED)
    unchanged = sum(one.ids == two.ids for one, two in zip(before, after, strict=True)) / len(before)
    name = TITLES[TASKS[task].main]
    interval = f"{loss.loss:.2f} points of {name} (95% interval {loss.low:.2f} to {loss.high:.2f})"
    logger.info(
        "the shortlist leaves %.1f%% of %d outputs as they were, and costs %s", 100 * unchanged, len(before), interval
    )
    if loss.high > config.shortlist_max_loss:
        raise ModelError(
            f"`shortlist_max_loss` {config.shortlist_max_loss}: the shortlist costs {interval} on {len(before)} texts: "
            f"raise `shortlist_coverage` {config.shortlist_coverage} or this limit; nothing was written"
        )
    return {"texts": len(before), "unchanged": unchanged, "metric": TASKS[task].main, **asdict(loss)}
