#!/usr/bin/env bash
# FTS (arXiv 2510.17171) on the bundled checkpoint at equal cost, two seeds, beside the true scenes: 8 of 64 positions in 20
# steps of the head and the others in 3 (5.1 in the mean), chosen by frequency and by lot, against 5 steps everywhere. The
# solver has no noise, so that images can be compared one by one.
#   benchmarks/paper/fts.sh SPRITES WORK [PROMPTS]     PROMPTS: of each of the six tasks, 4 of them
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 work=$2 prompts=${3:-4}
for seed in 0 1; do
    options=(--sprites "$sprites" --num-per-task "$prompts" --repeats 1 --seed "$seed")
    dcar-eval sweep num_steps=8 solver=dpmpp head_temperature=1 num_diffusion_steps=20 fts=none,frequency,random \
        fts_share=0.12 fts_steps=3 "${options[@]}" --out "$work/long-$seed"
    dcar-eval sweep num_steps=8 solver=dpmpp head_temperature=1 num_diffusion_steps=5,3 fts=none fts_steps=3 \
        "${options[@]}" --out "$work/short-$seed"
done
python benchmarks/paper/miniature.py gather fts "$work"
