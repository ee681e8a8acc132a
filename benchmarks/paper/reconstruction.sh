#!/usr/bin/env bash
# What the bundled tokenizer loses, on held-out scenes and on the photographs kept for evaluation (Table 4; resolution
# generalization: it was trained at 256 px). Scenes are drawn at 256 and 512 px; the other sizes are cropped from 512.
#   benchmarks/paper/reconstruction.sh SPRITES KEPT WORK [SCENES]
# SPRITES: node_modules with the art (docs/scenes.md). KEPT: of `python benchmarks/paper/photos.py`. SCENES: 256 of them.
set -euo pipefail
[ $# -ge 3 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 kept=$2 work=$3 scenes=${4:-256}
for size in 256 512; do
    dcar-eval scenes --sprites "$sprites" --out "$work/drawn/$size" --num "$scenes" --objects wide --split held-out \
        --seed 1 --size "$size"
done
dcar-eval reconstruction --images "$work/drawn/256" --size 256 --out "$work/scenes-256"
for size in 512 384x256 512x384; do
    dcar-eval reconstruction --images "$work/drawn/512" --size "$size" --out "$work/scenes-$size"
done
for size in 256 512 384x256 512x384; do
    dcar-eval reconstruction --images "$kept" --size "$size" --out "$work/photographs-$size"
done
python benchmarks/paper/miniature.py gather reconstruction "$work"
