#!/usr/bin/env bash
# Table 5 in miniature: three strategies of training the tokenizer at equal budget, with the codebook helped
# (k-means start, dead codes revived) and, as in the paper, not. About ten minutes a run on two cores.
#   docs/results/table5.sh SCENES RUNS      SCENES: what `dcar-eval scenes --objects starter` wrote
set -euo pipefail
scenes=$1 runs=$2
for seed in 0 1; do
    for codebook in "" _unhelped; do
        off=()
        [ -z "$codebook" ] || off=(codebook.kmeans_start=false codebook.revive_every=0)
        for strategy in three_stages no_warmup alternate_all_trainable; do
            experiment=table5
            [ "$strategy" = three_stages ] || experiment="[table5,$strategy]"
            dcht-train "+experiment=$experiment" data.root="$scenes" "${off[@]}" seed="$seed" \
                out="$runs/$strategy$codebook-$seed"
        done
    done
done
python docs/results/miniature.py gather table5 "$runs"
