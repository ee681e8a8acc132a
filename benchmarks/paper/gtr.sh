#!/usr/bin/env bash
# GtR's order (arXiv 2510.17171) on the bundled checkpoint at 512 px against the paper's, two seeds, beside the true scenes.
#   benchmarks/paper/gtr.sh SPRITES WORK [PROMPTS]     PROMPTS: of each of the six tasks, 4 of them
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 work=$2 prompts=${3:-4}
for seed in 0 1; do
    dcar-eval sweep num_steps=2,3,4,8,12 order=confidence,gtr --size 512 --sprites "$sprites" --num-per-task "$prompts" \
        --repeats 1 --seed "$seed" --batch-size 4 --out "$work/gtr-$seed"
done
python benchmarks/paper/miniature.py gather gtr "$work"
