#!/usr/bin/env bash
# Stage 2 as the paper has it (every image on the discrete path) beside half and half, at an equal, small budget.
#   benchmarks/paper/stage2.sh IMAGES WEIGHTS WORK
# IMAGES: tokenizer.sh's WORK/data/mixed. WEIGHTS: of the perceptual loss. Both arms start from one warm-up of random
# weights, so that neither inherits the bundled tokenizer's stage 2, and have as many steps in stages 2 and 3; no
# k-means start and no revival, which the paper does not have. 6,400 images at 128 px each for the warm-up and for an arm;
# two seeds. A run that is done is not done again, and one that was stopped goes on. Hardware: a CPU core with AVX512-BF16.
# Time: 49 minutes beside other work.
set -euo pipefail
[ $# -eq 3 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
images=$1 weights=$2 work=$3
stage() { # NAME STAGE STEPS OPTION...
    dcht-train +experiment=scenes stages="[$2]" "$2.steps=$3" seed="$seed" out="$work/seed-$seed/$1" \
        data.root="$images" data.size=256 data.crop=128 data.cache=false data.workers=1 batch_size=8 bf16=true \
        codebook.kmeans_start=false codebook.revive_every=0 loss.l1=0 loss.lpips=1 loss.gan=0 \
        loss.lpips_weights="$weights" optimizer.lr=1e-3 optimizer.final_lr=2e-4 eval_every=200 "${@:4}"
}
for seed in 0 1; do
    stage warmup continuous_warmup 800
    for prob in 1 0.5; do
        stage "stage2-$prob" discrete_learning 600 init_from="$work/seed-$seed/warmup/tokenizer" \
            discrete_learning.discrete_prob="$prob"
        stage "stage3-$prob" alternate_finetune 200 init_from="$work/seed-$seed/stage2-$prob/tokenizer"
    done
done
python "$(dirname "$0")/miniature.py" gather stage2 "$work"
