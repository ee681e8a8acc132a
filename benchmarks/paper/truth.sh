#!/usr/bin/env bash
# Fig. 6 in miniature, by fidelity: the bundled checkpoint's images of 36 held-out prompts beside the true scenes,
# Halton order, one noise seed. LPIPS where $DCHT_PERCEPTUAL_WEIGHTS names the weights.
#   benchmarks/paper/truth.sh SPRITES WORK
# SPRITES: node_modules with the art (docs/scenes.md).
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 work=$2
dcar-eval sweep order=halton num_steps=1,2,4,8,12,24 --sprites "$sprites" --num-per-task 6 --seed 4242 --noise-seed 5 \
    --repeats 1 --out "$work/halton-4242"
python benchmarks/paper/miniature.py gather truth "$work"
