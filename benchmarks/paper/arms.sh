#!/usr/bin/env bash
# What the residual's loss does to the discrete tokens (Table 4): generators from scratch with equal sequences, with a head
# that the transformer does not feel, and with its loss weighing 1 and 10, each drawn with its residual and without; then
# one without a head, at the FLOPs of those with one. The first of them drawn without its residual is the arm of discrete
# only: its transformer is that arm's bit for bit (pytest tests/dcar/train/test_trainer.py -k detached). Two seeds, a core
# each, judged on the same prompts beside the true scenes.
#   benchmarks/paper/arms.sh SPRITES WORK [STEPS [PROMPTS [SCENES]]]
# SPRITES: node_modules with the art (docs/scenes.md). STEPS: of 64 sequences, 1,600 (0.1 M). PROMPTS: of each of the six
# tasks, 24. SCENES: of the starter world to train on, 12,000. A run that is done is not done again, and one that was stopped
# goes on. Hardware: 2 CPU cores with AVX512-BF16 and a C++ compiler. Time: TIME.
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 work=$2 steps=${3:-1600} prompts=${4:-24} scenes=${5:-12000}
here=$(dirname "$0")
if [ ! -f "$work/latents/manifest.json" ]; then
    dcar-eval scenes --sprites "$sprites" --out "$work/scenes" --num "$scenes" --objects starter
    dcht encode "$work/scenes" --out "$work/latents" --workers 2 --threads 1 --shard-size 1024
fi
dcar-eval profile --preset small --precision fp32 --warmup 0 --repeats 1 num_steps=1 num_diffusion_steps=1 cfg_scale=0 \
    --out "$work/one-pass"
longer=$(python "$here/table4.py" "$work/one-pass/results.json" "$steps")
arm() { # NAME SEED STEPS OPTION...
    run=$work/runs/$1-$2
    judged=(--ckpt "$run/run/checkpoint" --num-per-task "$prompts" --sprites "$sprites" --objects starter)
    dcar-train +experiment=scenes256 data.root="$work/latents" seed="$2" steps="$3" loss.diffusion=1 \
        optimizer.head_clip=1 optimizer.final_lr=2e-5 compile=true sample_every=100000 out="$run/run" "${@:4}"
    dcar-eval scenes-eval "${judged[@]}" --out "$run/scores"
    [ "$1" = longer ] || dcar-eval sweep residual=off "${judged[@]}" --repeats 1 --out "$run/without"
}
arms() { # SEED
    arm one "$1" "$steps"
    arm detached "$1" "$steps" loss.detach=true
    arm ten "$1" "$steps" loss.diffusion=10
    arm longer "$1" "$longer" model.discrete_only=true
}
export OMP_NUM_THREADS=1
arms 0 &
arms 1
wait $!
python "$here/miniature.py" gather arms "$work"
