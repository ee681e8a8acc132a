#!/usr/bin/env bash
# Fig. 6 in miniature: the bundled checkpoint's scenes score against unmasking steps, by order, two seeds.
#   benchmarks/paper/fig6.sh WORK [PROMPTS]     PROMPTS: of each of the six tasks, 4 of them
set -euo pipefail
[ $# -ge 1 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
work=$1 prompts=${2:-4}
for seed in 0 1; do
    dcar-eval sweep order=confidence,random,halton num_steps=1,2,4,8,12,16,24 --num-per-task "$prompts" \
        --repeats 1 --seed "$seed" --out "$work/steps-$seed"
done
python benchmarks/paper/miniature.py gather fig6 "$work"
