#!/usr/bin/env bash
# The complete pipeline from a teacher to an exported model, on the built-in demo: plan, label, distil on pseudo-labels
# and the teacher's distributions, evaluate, export, evaluate the exported model, use it.
#
#   bash examples/whole_chain.sh [summarization|translation] [FOLDER]
set -euo pipefail
task=${1:-translation}
out=${2:-runs/chain-$task}
languages=()
if [ "$task" = translation ]; then languages=(--src_lang en --tgt_lang de); fi
mkdir -p "$out"

# Which student is twice as fast as the teacher?
distill plan --task "$task" --speedup 2 --write "$out/plan.yaml" > "$out/plan.json"

# Generate 8,000 pseudo-labels; repetitive ones are dropped.
distill label --model "demo:$task" --data "demo:$task" --task "$task" "${languages[@]}" --n 8000 --beams 2 \
    --max_target_length 96 --max_repetition 0.3 --output_dir "$out/labels"

# Learn from these labels and from the teacher's distributions; validation and test data are the original's.
distill --config "$out/plan.yaml" --data "$out/labels" "demo:$task" --data_weights 1 0 --output_dir "$out/student"

distill evaluate --models "demo:$task" "$out/student/best" --output_dir "$out/evaluation"

distill export --model "$out/student/best" --data "demo:$task" --quantization int8 --beams 2 --output_dir "$out/served"

distill evaluate --models "demo:$task" "$out/student/best" "$out/served" --names teacher student served \
    --data "demo:$task" --output_dir "$out/evaluation-of-served" --html "$out/report.html"

# Use it.
echo "The price of the carpet rose by 1.6%." | distill generate --model "$out/served"
