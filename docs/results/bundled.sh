#!/usr/bin/env bash
# The bundled generator, every leg from here on: about two hours on two cores with AVX512-BF16, of which data take 15
# minutes. A leg that is done is not done again, and one that was stopped goes on. docs/reproduction.md, "The bundled
# checkpoint", has what each printed, and the legs before these, whose recipe is this file at commit 603c4e1.
#   docs/results/bundled.sh SPRITES WORK
# SPRITES: node_modules with the art (docs/scenes.md). The first leg starts from the weights that the one before it
# published: `git archive cf7c5a6 packages/dcar/src/dcar/checkpoints/default`, unpacked here as WORK/start.
set -euo pipefail
sprites=$1 work=$2
mkdir -p "$work/start"
[ -f "$work/start/config.json" ] ||
    git archive cf7c5a6 packages/dcar/src/dcar/checkpoints/default | tar -x --strip-components 6 -C "$work/start"

scenes=(dcar-eval scenes --sprites "$sprites" --objects wide)
"${scenes[@]}" --out "$work/scenes256" --num 24000 --seed 0
"${scenes[@]}" --out "$work/scenes512" --num 6000 --seed 1 --size 512
dcht encode "$work/scenes256" --out "$work/latents256" --size 256 --workers 2 --threads 1
dcht encode "$work/scenes512" --out "$work/latents512" --size 512 --workers 2 --threads 1 --batch-size 8 \
    --shard-size 1024

# glibc gives large blocks back to the system after each use; keeping them saves a tenth of a step.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456
dcar-train +experiment=scenes256 init_from="$work/start" data.root="$work/latents256" out="$work/gen256"
dcar-train +experiment=scenes512 init_from="$work/gen256/checkpoint" seed=1 \
    data.root="$work/latents256" data.weight=0.85 \
    "data.mixture=[{kind: latents, root: $work/latents512, weight: 0.15}]" out="$work/gen512"
dcar-eval scenes-eval --ckpt "$work/gen512/checkpoint" --num-per-task 40 --out "$work/scores"
