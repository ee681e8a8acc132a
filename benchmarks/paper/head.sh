#!/usr/bin/env bash
# What the residual head is trained to say, on the bundled generator's hidden states: the noise (as the paper has it), the
# velocity v, the flow with logit-normal times, or the residual itself in one pass. Two seeds.
#   benchmarks/paper/head.sh SPRITES WORK [SCENES [STEPS]]
# SPRITES: node_modules with the art (docs/scenes.md). SCENES: to train on, 3,000. STEPS: of a head, 2,000.
# Needs dcar-eval[efficientnet]. Hardware: 1 CPU core; time: with 1,000 steps 3 minutes an arm, of
# fourteen, with AVX-512, and 9 with AVX2.
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 work=$2 scenes=${3:-3000} steps=${4:-2000}
here=$(dirname "$0")
draw() { # NAME NUMBER OPTION...
    [ -f "$work/$1-latents/manifest.json" ] && return
    dcar-eval scenes --sprites "$sprites" --objects wide --out "$work/$1" --num "$2" "${@:3}"
    dcht encode "$work/$1" --out "$work/$1-latents"
}
draw train "$scenes" --seed 3
draw held-out 96 --seed 4 --split held-out
for seed in 0 1; do
    python "$here/head_train.py" "$work/train-latents" "$work/held-out-latents" \
        --images "$work/held-out" --steps "$steps" --seed "$seed" --out "$work/seed-$seed"
done
python "$here/miniature.py" gather head "$work"
