#!/usr/bin/env bash
# The bundled generator, every leg after those of commit 603c4e1: about 90 minutes on two cores with AVX512-BF16, of which
# data take 10. A leg that is done is not done again, and one that was stopped goes on. docs/reproduction.md, "The bundled
# checkpoint", has what each printed and why they are as they are.
#   docs/results/bundled.sh SPRITES WORK
# SPRITES: node_modules with the art (docs/scenes.md). The first leg starts from the weights that the one before it
# published, at commit cf7c5a6. The first three were planned longer and stopped; here they have schedules that end there.
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
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
bag_of_words=(model.text.joint.positions=false model.generator.fully_masked=0)
large() { # of 512 px, so much
    echo "data.mixture=[{kind: latents, root: $work/latents512, weight: $1}]"
}
dcar-train +experiment=scenes256 init_from="$work/start" data.root="$work/latents256" "${bag_of_words[@]}" \
    steps=2542 out="$work/leg1"
dcar-train +experiment=scenes512 init_from="$work/leg1/checkpoint" data.root="$work/latents256" data.weight=0.85 \
    "$(large 0.15)" "${bag_of_words[@]}" seed=1 \
    steps=1823 optimizer.lr=1e-3 optimizer.final_lr=8e-4 out="$work/leg2"
dcar-train +experiment=scenes512 init_from="$work/leg2/checkpoint" data.root="$work/latents256" seed=2 \
    steps=470 optimizer.final_lr=1.2e-3 compile=false out="$work/leg3"
dcar-train +experiment=scenes512 init_from="$work/leg3/checkpoint" data.root="$work/latents256" data.weight=0.9 \
    "$(large 0.1)" seed=3 out="$work/leg4"
dcar-train +experiment=scenes512 init_from="$work/leg4/checkpoint" data.root="$work/latents256" data.weight=0.95 \
    "$(large 0.05)" seed=4 steps=1900 optimizer.lr=8e-4 optimizer.final_lr=1e-5 out="$work/leg5"
dcar-eval scenes-eval --ckpt "$work/leg5/checkpoint" --num-per-task 40 --out "$work/scores"
