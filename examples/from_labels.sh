#!/usr/bin/env bash
# From sentences without translations to a student of another architecture: the built-in teacher labels the sources of
# the demo, with the log-probability of each token; a student with fresh weights and its own vocabulary learns from the
# label set alone. Any other teacher would do, such as a language model behind a server (docs/language_models.md).
#
#   bash examples/from_labels.sh [FOLDER] [STEPS]
set -euo pipefail
out=${1:-runs/from-labels-demo}
steps=${2:-1500}
mkdir -p "$out"

# Sentences alone: the sources of the demo, one per line.
python -c "
from seq2seq_distill import demo
from seq2seq_distill.data.sources import load_split
print('\n'.join(load_split(demo.data_source('demo:translation'), 'train')['source']))" > "$out/sentences.txt"

# 500 sources each are held out as val and test.
distill label --model demo:translation --data "$out/sentences.txt" --task translation --src_lang en --tgt_lang de \
    --beams 2 --max_target_length 96 --logprobs true --n_val 500 --n_test 500 --output_dir "$out/labels"

distill --config configs/translation/fresh-from-labels.yaml --student.config configs/demo/translation-shape.yaml \
    --student.vocab_size 2000 --data "$out/labels" --output_dir "$out/student" --batch.max_tokens 2500 \
    --encode.max_source_length 96 --encode.max_target_length 96 --eval.max_target_length 96 --eval.beams 2 \
    --eval.n_val 100 --loss.alpha_chunk 1 --optim.lr 0.001 --optim.warmup_steps 400 \
    --trainer.max_steps "$steps" --trainer.val_check_interval "$steps"

distill evaluate --models demo:translation "$out/student/best" --names teacher student --data demo:translation \
    --output_dir "$out/evaluation"
