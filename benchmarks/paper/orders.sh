#!/usr/bin/env bash
# Fig. 6 in miniature: the bundled checkpoint against unmasking steps, by order, two seeds, beside the true scenes; and its
# score on the hard benchmark.
#   benchmarks/paper/orders.sh SPRITES WORK [PROMPTS] [HARD]     PROMPTS: of each of the six tasks, 8 of them;
# HARD: of each of the seven tasks of the hard benchmark in either column, 4 of them.
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 work=$2 prompts=${3:-8} hard=${4:-4}
for seed in 0 1; do
    dcar-eval sweep order=confidence,random,halton num_steps=1,2,4,8,12,24 --sprites "$sprites" \
        --num-per-task "$prompts" --repeats 1 --seed "$seed" --out "$work/steps-$seed"
    for order in confidence random halton; do
        for steps in 1 4 12; do
            dcar-eval scenes-eval --benchmark hard --num-per-task "$hard" --seed "$seed" --order "$order" --steps "$steps" \
                --out "$work/hard-$seed-$order-$steps"
        done
    done
done
python benchmarks/paper/miniature.py gather orders "$work"
