#!/usr/bin/env bash
# The generator of release 0.1.0, every leg after those of commit 603c4e1: about two and a half hours on two cores with
# AVX512-BF16, of which data take 10 minutes. A leg that is done is not done again, and one that was stopped goes on.
# docs/bundled-checkpoint.md, "Release 0.1.0", has what each printed and why they are as they are.
#   benchmarks/paper/bundled.sh SPRITES WORK
# SPRITES: node_modules with the art (docs/scenes.md). The first leg starts from the weights that the one before it
# published, at commit cf7c5a6, which also has the tokenizer. Legs 1 to 3 and 6 were planned longer and stopped; here they
# have schedules that end there.
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 work=$2 tokenizer=$2/start/tokenizer
mkdir -p "$tokenizer"
bundled() { # PACKAGE NAME INTO: what a package bundled at that commit
    [ -f "$3/config.json" ] ||
        git -C "$(dirname "$0")/../.." archive "cf7c5a6:packages/$1/src/$1/checkpoints/$2" | tar -x -C "$3"
}
bundled dcht small "$tokenizer"
bundled dcar default "$work/start"

scenes=(dcar-eval scenes --sprites "$sprites" --objects wide)
encode() { # SCENES LATENTS SIZE OPTION...
    dcht encode "$1" --ckpt "$tokenizer" --out "$2" --size "$3" --workers 2 --threads 1 --shard-size 512 "${@:4}"
}
"${scenes[@]}" --out "$work/scenes256" --num 24000 --seed 0
"${scenes[@]}" --out "$work/scenes512" --num 6000 --seed 1 --size 512
"${scenes[@]}" --out "$work/gathered512" --num 6000 --seed 2 --size 512 --task gathering
encode "$work/scenes256" "$work/latents256" 256
encode "$work/scenes512" "$work/latents512" 512 --batch-size 8 --shard-size 1024
encode "$work/gathered512" "$work/gathered" 512 --batch-size 8 --shard-size 1024

# glibc gives large blocks back to the system after each use; keeping them saves a tenth of a step.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456
bag_of_words=(model.text.joint.positions=false model.generator.fully_masked=0)
share() { # LATENTS WEIGHT: one more source, so much of the samples
    echo "{kind: latents, root: $work/$1, weight: $2}"
}
leg() { # NUMBER EXPERIMENT START OPTION...
    dcar-train +experiment="$2" init_from="$3" tokenizer_ckpt="$tokenizer" seed=$(($1 - 1)) \
        data.root="$work/latents256" out="$work/leg$1" "${@:4}"
}
before=(loss.diffusion=1 batch_size=64) # as the first six had it, see "A residual that is learned at 512 px"
leg 1 scenes256 "$work/start" "${before[@]}" "${bag_of_words[@]}" steps=2542
leg 2 scenes512 "$work/leg1/checkpoint" "${before[@]}" "${bag_of_words[@]}" steps=1823 \
    optimizer.lr=1e-3 optimizer.final_lr=8e-4 data.weight=0.85 "data.mixture=[$(share latents512 0.15)]"
leg 3 scenes512 "$work/leg2/checkpoint" "${before[@]}" steps=470 optimizer.lr=1.2e-3 optimizer.final_lr=1.2e-3 \
    compile=false
leg 4 scenes512 "$work/leg3/checkpoint" "${before[@]}" steps=3800 optimizer.lr=1.2e-3 optimizer.final_lr=2e-5 \
    data.weight=0.9 "data.mixture=[$(share latents512 0.1)]"
leg 5 scenes512 "$work/leg4/checkpoint" "${before[@]}" steps=1900 optimizer.lr=8e-4 optimizer.final_lr=1e-5 \
    data.weight=0.95 "data.mixture=[$(share latents512 0.05)]"
leg 6 scenes512 "$work/leg5/checkpoint" "${before[@]}" steps=1187 optimizer.lr=1.2e-3 optimizer.final_lr=1e-3 \
    data.weight=0.35 "data.mixture=[$(share latents512 0.65)]"
leg 7 scenes512 "$work/leg6/checkpoint" steps=3400 optimizer.lr=1e-3 optimizer.final_lr=8e-4 \
    data.weight=0.25 "data.mixture=[$(share latents512 0.35), $(share gathered 0.4)]"
leg 8 scenes512 "$work/leg7/checkpoint" steps=1300 optimizer.lr=8e-4 optimizer.final_lr=1e-5 \
    data.weight=0.35 "data.mixture=[$(share latents512 0.35), $(share gathered 0.3)]"
for size in 256 512; do
    dcar-eval scenes-eval --ckpt "$work/leg8/checkpoint" --num-per-task 40 --size "$size" --out "$work/scores-$size"
done
