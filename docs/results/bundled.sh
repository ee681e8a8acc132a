#!/usr/bin/env bash
# The bundled checkpoint, every leg in its order: about 90 minutes on two cores. A leg that is done is not done again, and
# one that was stopped goes on. docs/reproduction.md, "The bundled checkpoint", has what each printed.
#   docs/results/bundled.sh SPRITES PHOTOS WEIGHTS START WORK
# SPRITES: node_modules with the art (docs/scenes.md). PHOTOS: the unpacked packages of benchmarks/photos.py. WEIGHTS: what
# `python -m dcht.perceptual convert` wrote. START: the tokenizer that the first leg starts from, 12,000 scenes of twelve
# objects old: `git archive a97f06d packages/dcht/src/dcht/checkpoints/small`.
# Run it at commit 603c4e1, whose `dcar-eval scenes` drew these scenes: a window of 4 x 4 cells was called --close-ups there,
# and single objects had six cells, too.
set -euo pipefail
sprites=$1 photos=$2 weights=$3 start=$4 work=$5
mkdir -p "$work/mixed" "$work/dense"

# What the tokenizer sees: scenes and tiles of photographs at 256 px, close-ups of the objects and the tiles at 128 px.
scenes=(dcar-eval scenes --sprites "$sprites" --objects wide)
"${scenes[@]}" --out "$work/scenes" --num 14000 --seed 0
"${scenes[@]}" --out "$work/closeups" --num 12000 --seed 0 --size 128 --close-ups
"${scenes[@]}" --out "$work/mixed/scenes" --num 5000 --seed 0
"${scenes[@]}" --out "$work/mixed/varied" --num 1000 --seed 1 --backgrounds varied
[ -d "$work/kept" ] || python benchmarks/photos.py "$photos" --tiles "$work/mixed/tiles" --kept "$work/kept"
[ -d "$work/dense/closeups" ] || cp -rl "$work/closeups" "$work/dense/closeups"
for copy in 1 2 3; do
    [ -d "$work/dense/tiles-$copy" ] || cp -rl "$work/mixed/tiles" "$work/dense/tiles-$copy"
done

tokenizer() { # NAME FROM STAGE STEPS options
    dcht-train +experiment=scenes stages="[$3]" "$3.steps=$4" init_from="$2" out="$work/$1" "${@:5}"
}
tokenizer warmup-256 "$start" continuous_warmup 1800 data.root="$work/mixed" optimizer.final_lr=1e-4
tokenizer warmup-128 "$work/warmup-256/tokenizer" continuous_warmup 3000 data.root="$work/dense" data.size=128 \
    data.crop=128 batch_size=16 optimizer.final_lr=2e-4 seed=1
# Half of the images stay on the continuous path, so that the residual keeps what the codes do not hold.
tokenizer discrete "$work/warmup-128/tokenizer" discrete_learning 1100 data.root="$work/mixed" \
    discrete_learning.discrete_prob=0.5 optimizer.lr=6e-4 optimizer.final_lr=5e-5 seed=2
tokenizer alternate "$work/discrete/tokenizer" alternate_finetune 900 data.root="$work/mixed" \
    optimizer.lr=6e-4 optimizer.final_lr=3e-5 loss.lpips=0.3 loss.lpips_weights="$weights" seed=3

ckpt=$work/alternate/tokenizer
dcht encode "$work/closeups" --out "$work/latents128" --ckpt "$ckpt" --size 128 --workers 2
dcht encode "$work/scenes" --out "$work/latents256" --ckpt "$ckpt" --size 256 --workers 2
dcar-train +experiment=closeups128 tokenizer_ckpt="$ckpt" data.root="$work/latents128" out="$work/closeups128"
dcar-train +experiment=scenes256 tokenizer_ckpt="$ckpt" init_from="$work/closeups128/checkpoint" seed=1 \
    data.root="$work/latents256" data.weight=0.8 \
    "data.mixture=[{kind: latents, root: $work/latents128, weight: 0.2}]" out="$work/scenes256"
dcar-eval scenes-eval --ckpt "$work/scenes256/checkpoint" --num-per-task 40 --out "$work/scores"
