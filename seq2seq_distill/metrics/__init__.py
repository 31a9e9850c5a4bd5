"""Scores of texts and their significance; nltk and sacrebleu are imported when the first of them is used."""

from typing import TYPE_CHECKING

from seq2seq_distill.utils.lazy import lazy_names

if TYPE_CHECKING:
    from seq2seq_distill.metrics.consensus import utilities as utilities
    from seq2seq_distill.metrics.corpus import bleu as bleu
    from seq2seq_distill.metrics.corpus import bleu_language as bleu_language
    from seq2seq_distill.metrics.corpus import bleu_signature as bleu_signature
    from seq2seq_distill.metrics.corpus import dropped_by_rouge as dropped_by_rouge
    from seq2seq_distill.metrics.corpus import rouge as rouge
    from seq2seq_distill.metrics.corpus import rouge_per_example as rouge_per_example
    from seq2seq_distill.metrics.corpus import rouge_tokenizer_for as rouge_tokenizer_for
    from seq2seq_distill.metrics.corpus import score as score
    from seq2seq_distill.metrics.corpus import score_per_example as score_per_example
    from seq2seq_distill.metrics.corpus import signature as signature
    from seq2seq_distill.metrics.corpus import translation_metrics as translation_metrics
    from seq2seq_distill.metrics.corpus import warn_of_dropped_text as warn_of_dropped_text
    from seq2seq_distill.metrics.significance import Loss as Loss
    from seq2seq_distill.metrics.significance import Mean as Mean
    from seq2seq_distill.metrics.significance import ScoreWithInterval as ScoreWithInterval
    from seq2seq_distill.metrics.significance import compare_systems as compare_systems
    from seq2seq_distill.metrics.significance import loss_of_score as loss_of_score
else:  # a type checker that saw it would believe in every name
    __getattr__ = lazy_names(
        __name__,
        {
            **dict.fromkeys(
                ("bleu", "bleu_language", "bleu_signature", "rouge", "rouge_per_example", "score"), "corpus"
            ),
            **dict.fromkeys(("score_per_example", "signature", "translation_metrics"), "corpus"),
            **dict.fromkeys(("dropped_by_rouge", "rouge_tokenizer_for", "warn_of_dropped_text"), "corpus"),
            "utilities": "consensus",
            **dict.fromkeys(("Loss", "Mean", "ScoreWithInterval", "compare_systems", "loss_of_score"), "significance"),
        },
    )
