#!/usr/bin/env bash
# The tokenizer `small_deep`, from release 0.1.0's `small`: data and legs, 26,000 crops of 128 px and 64,000 images of 256 px.
#   benchmarks/paper/tokenizer.sh SPRITES PHOTOS WEIGHTS WORK
# SPRITES: node_modules with the four packages of tokenizer_data.py. PHOTOS: the unpacked packages of
# benchmarks/paper/photos.py. WEIGHTS: what `python -m dcht.perceptual convert` wrote. WORK: data/ and runs/ are made there.
#
# A leg that is done is not done again, and one that was stopped or killed goes on: the same command. While
# WORK/runs/LEG/PAUSE exists the leg waits. Hardware: 2 CPU cores with AVX512-BF16 or AMX, in bf16. Time: data 4
# minutes; the first three legs 15, 12 and 43 minutes, the last of them on one core, beside other work; the others 8 minutes per 450 steps.
# START, if set, is what `refine` starts from, and the legs before it are left out: the bundled one, say.
set -euo pipefail
[ $# -eq 4 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 photos=$2 weights=$3 work=$4
here=$(dirname "$0")
mixed=$work/data/mixed

# 61,000 images: scenes of the training split (what is held out never appears), sprites in three styles, photographs, and the
# things of world_things.txt, alone and several. The run of tokenizer.json saw 240 of their 254 names, and several of them in
# its last leg alone.
scenes=(dcar-eval scenes --sprites "$sprites" --objects wide --workers 1)
if [ ! -f "$work/data/drawn" ]; then
    "${scenes[@]}" --out "$mixed/scenes" --num 9000 --seed 0
    "${scenes[@]}" --out "$mixed/varied" --num 4000 --seed 1 --backgrounds varied
    things=(dcar-eval scenes --sprites "$sprites" --grammar hard --objects "$(paste -sd, "$here/world_things.txt")" --workers 1)
    "${things[@]}" --out "$mixed/one" --num 24000 --seed 0 --task one
    "${things[@]}" --out "$mixed/several" --num 10000 --seed 1
    "${scenes[@]}" --out "$work/data/held-out" --num 128 --seed 5 --split held-out
    [ -d "$work/data/kept" ] || python "$here/photos.py" "$photos" --tiles "$work/data/tiles" --kept "$work/data/kept"
    python "$here/tokenizer_data.py" "$sprites" "$photos" --out "$mixed" --collages 10000 --pieces 4000
    touch "$work/data/drawn"
fi

# One rank a core, each with one thread (OMP_NUM_THREADS=1). On that busy machine a step of one process took 6 s with one
# thread and 23 to 29 s with two, because every operator waits for the thread that is not running; two ranks wait for
# each other at BatchNorm and at the step's end alone. They did 3.4 to 7.8 images a second together in the last four legs.
train=(torchrun --standalone --nproc-per-node "${RANKS:-2}" -m dcht.launch)
leg() { # NAME FROM STAGE STEPS OPTION...
    "${train[@]}" +experiment=scenes tokenizer=small_deep stages="[$3]" "$3.steps=$4" init_from="$2" \
        out="$work/runs/$1" data.root="$mixed" data.size=256 data.cache=false data.workers=1 bf16=true \
        loss.l1=1 loss.l2=1 loss.lpips_net=alex loss.lpips_weights="$weights" loss.gan=0 \
        optimizer.warmup_steps=100 optimizer.ema_decay=0.998 \
        log_every=50 eval_every=500 save_every=100000 save_minutes=10 "${@:5}"
    report "$1" "$work/runs/$1/tokenizer"
}
report() { # LEG TOKENIZER
    [ -f "$work/runs/$1/report.json" ] && return
    mkdir -p "$work/runs/$1"
    python "$here/tokenizer_report.py" "$2" --scenes "$work/data/held-out" --photos "$work/data/kept" --weights "$weights" \
        --out "$work/runs/$1/report.json"
}
start=${START:-}
old=$work/release-0.1.0
# Encoder and codebook go on from release 0.1.0's, gently: no k-means, no revival, so that a code goes on to mean much the
# same and a generator of those codes is a start for these. Half of the images take each path (stage2.sh holds that
# against the paper's stage 2). Crops of 128 px are a quarter of the work, and of the same scale: a token sees the same pixels.
joint=(codebook.kmeans_start=false codebook.revive_every=0)
if [ -z "$start" ]; then
    mkdir -p "$old"
    [ -f "$old/config.json" ] ||
        git -C "$here/../.." archive 5537f67:packages/dcht/src/dcht/checkpoints/small | tar -x -C "$old"
    report bundled "$old"
    leg joint-128 "$old" discrete_learning 1600 seed=0 data.crop=128 batch_size=16 loss.lpips=0 \
        "${joint[@]}" discrete_learning.discrete_prob=0.5 optimizer.lr=8e-4 optimizer.final_lr=5e-4
    leg joint-256 "$work/runs/joint-128/tokenizer" discrete_learning 1000 seed=1 data.crop=256 batch_size=8 loss.lpips=0.3 \
        "${joint[@]}" discrete_learning.discrete_prob=0.5 optimizer.lr=6e-4 optimizer.final_lr=5e-5
    # The decoder alone, and most images on the path that ships.
    leg decoder "$work/runs/joint-256/tokenizer" alternate_finetune 3200 seed=2 data.crop=256 batch_size=8 loss.lpips=0.3 \
        alternate_finetune.discrete_prob=0.3 optimizer.lr=1e-3 optimizer.final_lr=1e-5
    start=$work/runs/decoder/tokenizer
fi
# All parts once more: what limits a decoder is what the encoder says. The run of tokenizer.json took the first 1,204 of 4,000 steps
# of a cosine from 6e-4 to 1e-4, most of them on one rank, and went on from the averaged weights with a shorter one.
leg refine "$start" discrete_learning 1200 seed=3 data.crop=256 batch_size=8 loss.lpips=0.3 \
    "${joint[@]}" discrete_learning.discrete_prob=0.3 optimizer.lr=6e-4 optimizer.final_lr=5e-4
leg refine-2 "$work/runs/refine/tokenizer" discrete_learning 1080 seed=5 data.crop=256 batch_size=8 loss.lpips=0.3 \
    "${joint[@]}" discrete_learning.discrete_prob=0.3 optimizer.lr=4.5e-4 optimizer.final_lr=5e-5
# What counts from here on is what the generator will draw: more of its scenes, arranged ones among them, and a weight of 4 on squared
# errors. 673 steps with these gave as much as the 2,284 before them. The run's refine-3 was planned for 2,400 steps with a weight
# of 3, and refine-4 began from its averaged weights.
chosen=$work/data/chosen
if [ ! -d "$chosen" ]; then
    mkdir -p "$chosen.part/one"
    cp -al "$mixed"/{scenes,varied,several,pieces,collages} "$chosen.part"
    cp -al "$mixed"/one/part-000[0-9] "$chosen.part/one"
    "${scenes[@]}" --out "$chosen.part/standard" --num 8000 --seed 33
    "${scenes[@]}" --out "$chosen.part/arranged" --num 9000 --seed 42 --grammar hard --arranged
    mv "$chosen.part" "$chosen"
fi
leg refine-3 "$work/runs/refine-2/tokenizer" discrete_learning 700 seed=6 data.root="$chosen" data.crop=256 batch_size=8 loss.lpips=0.3 \
    "${joint[@]}" discrete_learning.discrete_prob=0.25 loss.l2=4 optimizer.lr=6e-4 optimizer.final_lr=6e-4
leg refine-4 "$work/runs/refine-3/tokenizer" discrete_learning 850 seed=7 data.root="$chosen" data.crop=256 batch_size=8 loss.lpips=0.3 \
    "${joint[@]}" discrete_learning.discrete_prob=0.25 loss.l2=4 optimizer.lr=6e-4 optimizer.final_lr=2e-5 optimizer.ema_decay=0.995
python "$here/miniature.py" gather tokenizer "$work"

# NOT RUN yet, for want of hours: more of all parts, then the decoder alone (24,000 images, an hour of both cores). Latents are final
# from here on, and a generator can be trained beside.
# leg polish "$work/runs/refine-4/tokenizer" alternate_finetune 3000 seed=4 data.root="$chosen" data.crop=256 batch_size=8 loss.lpips=0.3 \
#     alternate_finetune.discrete_prob=0.3 loss.l2=4 optimizer.lr=8e-4 optimizer.final_lr=1e-5
