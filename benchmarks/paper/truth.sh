#!/usr/bin/env bash
# Fig. 6 in miniature, by fidelity: the bundled checkpoint's images of 36 held-out prompts beside the true scenes,
# Halton order, one noise seed. LPIPS where $DCHT_PERCEPTUAL_WEIGHTS names the weights.
#   benchmarks/paper/truth.sh SPRITES WORK [CKPT...]
# SPRITES: node_modules with the art (docs/scenes.md). CKPT: others to hold beside it, an older release's (docs/bundled-checkpoint.md).
# What is done is not done again. Hardware: 1 CPU core; time: 4 minutes a checkpoint.
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 work=$2 number=0
for ckpt in "" "${@:3}"; do # the first: what is bundled
    dcar-eval sweep order=halton num_steps=1,2,4,8,12,24 ${ckpt:+--ckpt "$ckpt"} --sprites "$sprites" --num-per-task 6 --seed 4242 \
        --noise-seed 5 --repeats 1 --out "$work/halton-$number"
    number=$((number + 1))
done
python "$(dirname "$0")/miniature.py" gather truth "$work"
