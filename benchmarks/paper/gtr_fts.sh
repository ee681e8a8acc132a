#!/usr/bin/env bash
# GtR and FTS (arXiv 2510.17171) on the bundled checkpoint against fewer plain steps, two seeds: GtR's order beside the
# paper's, and FTS's long schedule for a tenth of the positions (20 steps, the others 8) beside 20 and 8 for all, and
# beside a tenth chosen at random. The head's solver has no noise, so images can be compared one by one.
#   benchmarks/paper/gtr_fts.sh WORK [PROMPTS]     PROMPTS: of each of the six tasks, 4 of them
set -euo pipefail
[ $# -ge 1 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
work=$1 prompts=${2:-4}
axes=(num_steps=12,8,6 order=confidence,gtr solver=dpmpp)
for seed in 0 1; do
    options=(--num-per-task "$prompts" --repeats 1 --seed "$seed")
    dcar-eval sweep "${axes[@]}" num_diffusion_steps=20 fts=none,frequency,random "${options[@]}" \
        --out "$work/selected-$seed"
    dcar-eval sweep "${axes[@]}" num_diffusion_steps=8 fts=none "${options[@]}" --out "$work/short-$seed"
done
python benchmarks/paper/miniature.py gather gtr_fts "$work"
