#!/usr/bin/env bash
# Table 5 in miniature: three strategies of training the tokenizer at equal budget, two seeds. About three minutes a run
# on two cores with AVX512-BF16.
#   benchmarks/paper/table5.sh SPRITES WORK
# SPRITES: node_modules with the art (docs/scenes.md).
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 work=$2
dcar-eval scenes --sprites "$sprites" --out "$work/scenes" --num 12000 --objects starter
for seed in 0 1; do
    for strategy in three_stages no_warmup alternate_all_trainable; do
        experiment=table5
        [ "$strategy" = three_stages ] || experiment="[table5,$strategy]"
        dcht-train "+experiment=$experiment" data.root="$work/scenes" bf16=true seed="$seed" out="$work/runs/$strategy-$seed"
    done
done
python benchmarks/paper/miniature.py gather table5 "$work/runs"
