#!/usr/bin/env bash
# Table 5 without the cure: three strategies of training the tokenizer at equal budget, with the paper's losses but the GAN,
# no codebook that starts from k-means and no code that is revived; three seeds.
#   benchmarks/paper/strategies.sh SPRITES WEIGHTS WORK [SCENES [FACTOR]]
# SPRITES: node_modules with the art (docs/scenes.md). WEIGHTS: of the perceptual loss. SCENES: to train on, 12,000. FACTOR:
# of the 1,000 steps, 1. A run that is done is not done again, and one that was stopped goes on. In bf16 where the processor
# computes in it. Needs dcar-eval[efficientnet]. Hardware: 1 CPU core. Time: 8 minutes a run, of
# nine, beside other work with AVX512-BF16; 12 in fp32 (AVX2) at FACTOR 0.5. The third seed: NOT RUN.
set -euo pipefail
[ $# -ge 3 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 weights=$2 work=$3 scenes=${4:-12000} factor=${5:-1}
of() { python -c "print(max(round($1 * $factor), 2))"; }
draw() { # NAME NUMBER OPTION...
    [ -f "$work/$1/scenes.json" ] ||
        dcar-eval scenes --sprites "$sprites" --out "$work/$1" --num "$2" --objects starter --size 128 "${@:3}"
}
bf16=$(python -c "from dcht.device import Precision, pick_precision as p; print(p('auto', 'cpu') is Precision.bf16)")
draw scenes "$scenes"
draw held-out 256 --split held-out --seed 2
for seed in 0 1 2; do
    for strategy in three_stages no_warmup alternate_all_trainable; do
        run=$work/runs/$strategy-$seed
        experiment=table5
        [ "$strategy" = three_stages ] || experiment="[table5,$strategy]"
        dcht-train "+experiment=$experiment" data.root="$work/scenes" bf16="$bf16" seed="$seed" out="$run/run" \
            codebook.kmeans_start=false codebook.revive_every=0 loss.l1=0 loss.lpips=1 loss.lpips_weights="$weights" \
            continuous_warmup.steps="$(of 165)" discrete_learning.steps="$(of 670)" alternate_finetune.steps="$(of 165)"
        dcar-eval reconstruction --ckpt "$run/run/tokenizer" --images "$work/held-out" --size 128 --path both \
            --extractor efficientnet-lite0 --lpips-weights "$weights" --out "$run/scores"
    done
done
python "$(dirname "$0")/miniature.py" gather strategies "$work"
