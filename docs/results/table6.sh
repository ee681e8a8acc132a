#!/usr/bin/env bash
# Table 6 in miniature: 160 steps at 512 px from the bundled 256 px weights, and from scratch, two seeds.
# About six minutes a run on two cores.
#   docs/results/table6.sh SPRITES WORK     SPRITES: node_modules with the art (docs/reproduction.md)
set -euo pipefail
sprites=$1 work=$2
dcar-eval scenes --sprites "$sprites" --out "$work/scenes512" --num 1500 --objects starter --seed 512 --size 512
dcht encode "$work/scenes512" --out "$work/latents512" --size 512 --batch-size 8
for seed in 0 1; do
    for start in bundled scratch; do
        dcar-train +experiment=scenes512 data.root="$work/latents512" init_from="$start" seed="$seed" \
            steps=160 batch_size=16 optimizer.warmup_steps=20 out="$work/runs/$start-$seed"
    done
done
python docs/results/miniature.py gather table6 "$work/runs"
