#!/usr/bin/env bash
# Table 4 in miniature, hybrid against discrete-only, two seeds each. First the bundled generator with its residual and
# without; then one that is trained to have none, against one that has it, from scratch at equal FLOPs. The seeds are trained
# beside each other, a core each: 18 minutes a run with AVX512-BF16. Reconstruction, the table's other half, is
# reconstruction.sh's. Needs dcar-eval[efficientnet].
#   benchmarks/paper/table4.sh SPRITES WORK [PROMPTS [STEPS [SCENES]]]
# SPRITES: node_modules with the art (docs/scenes.md). PROMPTS: of each of the six tasks, 24 of them. STEPS: of the hybrid
# runs, 1,500. SCENES: of the starter world to train on, 12,000.
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 work=$2 prompts=${3:-24} steps=${4:-1500} scenes=${5:-12000}

# What images are compared with: as many held-out scenes of the same world.
for world in wide starter; do
    dcar-eval scenes --sprites "$sprites" --out "$work/reference-$world" --num $((prompts * 6)) --objects "$world" \
        --split held-out --seed 2
done
distances() { # WORLD PICTURES OUT
    dcar-eval fid "$work/reference-$1" "$2" --extractor efficientnet-lite0 --json >"$3"
}

for seed in 0 1; do
    dcar-eval sweep table4 --num-per-task "$prompts" --repeats 1 --seed "$seed" --out "$work/drawn/$seed"
    distances wide "$work/drawn/$seed/points/000/images" "$work/drawn/$seed/distances-hybrid.json"
    distances wide "$work/drawn/$seed/points/001/images" "$work/drawn/$seed/distances-discrete.json"
done

dcar-eval scenes --sprites "$sprites" --out "$work/scenes" --num "$scenes" --objects starter
dcht encode "$work/scenes" --out "$work/latents" --workers 2 --threads 1 --shard-size 1024
# One pass of every part, unguided: what a training step does forward. The discrete run gets the head's share in steps.
dcar-eval profile --preset small --precision fp32 --warmup 0 --repeats 1 num_steps=1 num_diffusion_steps=1 cfg_scale=0 \
    --out "$work/one-pass"
discrete_steps=$(python benchmarks/paper/table4.py "$work/one-pass/results.json" "$steps")
train() { # SEED
    for variant in hybrid discrete; do
        run=$work/trained/$variant-$1
        options=(steps="$steps")
        [ "$variant" = hybrid ] || options=(steps="$discrete_steps" model.discrete_only=true)
        dcar-train +experiment=scenes256 data.root="$work/latents" seed="$1" "${options[@]}" \
            optimizer.final_lr=2e-5 compile=false sample_every=1000 out="$run/run"
        dcar-eval scenes-eval --ckpt "$run/run/checkpoint" --num-per-task "$prompts" --out "$run/scores"
        distances starter "$run/scores/images" "$run/distances.json"
    done
}
export OMP_NUM_THREADS=1
train 0 &
train 1
wait $!
python benchmarks/paper/miniature.py gather table4 "$work"
