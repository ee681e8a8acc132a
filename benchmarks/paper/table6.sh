#!/usr/bin/env bash
# Table 6 in miniature: 160 steps at 512 px from 256 px weights that have seen no other size, and from scratch, two seeds,
# as those weights were trained: no positions of words, the paper's masks.
# About two minutes a run on two cores with AVX512-BF16.
#   benchmarks/paper/table6.sh WEIGHTS LATENTS WORK
# WEIGHTS: what bundled.sh left in leg1/checkpoint, with its tokenizer two folders above. LATENTS: its latents512.
set -euo pipefail
[ $# -ge 3 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
weights=$1 latents=$2 work=$3
for seed in 0 1; do
    for start in pretrained scratch; do
        init=$weights
        [ "$start" = pretrained ] || init=scratch
        dcar-train +experiment=scenes512 data.root="$latents" init_from="$init" seed="$seed" steps=160 batch_size=16 \
            tokenizer_ckpt="$weights/../../start/tokenizer" \
            optimizer.lr=6e-4 optimizer.warmup_steps=20 log_every=10 compile=false sample_every=160 \
            loss.diffusion=1 model.text.joint.positions=false model.generator.fully_masked=0 out="$work/$start-$seed"
    done
done
python benchmarks/paper/miniature.py gather table6 "$work"
