#!/usr/bin/env bash
# The generator of the big world, on a new tokenizer: single things, the harder grammar and the standard one, in three
# styles, from random weights; a leg of close-ups, two at 256 px, one with 512 px. Then what it is worth, by all three benchmarks.
#   benchmarks/paper/world.sh SPRITES TOKENIZER WORK [SHARE]
# SPRITES: node_modules with the art of all three styles (docs/scenes.md). TOKENIZER: what tokenizer.sh made. SHARE: of the
# images and steps, 1; a thousandth shows that everything fits. Data that is there is not made again, a leg that is done is not
# done again, and one that was stopped goes on. What is held out appears in no set. Hardware: 2 CPU cores with AVX512-BF16.
# Time: data 50 core-minutes (measured); legs 3, 4, 4 and 4 core-hours, estimated from 190 sequences a
# second of a core at 128 px and 50 at 256 px.
# world_things.txt: 300 things that people type, by their 358 names: the commoner half of things.json (frequency in English by
# the package wordfreq), people and what looks like something else left out by hand.
set -euo pipefail
[ $# -ge 3 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 tokenizer=$2 work=$3 share=${4:-1}
of() { python -c "import math, sys; print(max(math.ceil(float(sys.argv[1]) * $share), 1))" "$1"; }

things=$(paste -sd, "$(dirname "$0")/world_things.txt")
store() { # NAME NUMBER SEED SIZE OPTION...
    [ -f "$work/$1/manifest.json" ] && return
    dcar-eval scenes --sprites "$sprites" --out "$work/$1-images" --num "$(of "$2")" --seed "$3" --size "$4" "${@:5}"
    dcht encode "$work/$1-images" --ckpt "$tokenizer" --out "$work/$1" --size "$4" --workers 2 --threads 1 --precision auto --compile
}
hard=(--grammar hard --objects)
# Each name is in 500 images or more.
store things 36000 0 256 "${hard[@]}" "$things" --task one --styles 3d,noto,flat
store places 24000 7 256 --objects "$things" --task single_object
store scenes 60000 1 256 "${hard[@]}" "$things" --styles 3d,3d,noto,flat
store grammar 14000 2 256 "${hard[@]}" wide
store standard 14000 3 256 --objects wide
store scenes512 8000 4 512 "${hard[@]}" "$things"
store standard512 6000 5 512 --objects wide
close() { # NAME FROM... [--centered]: windows of 128 px, 16 tokens, of scenes that show one thing
    [ -f "$work/$1/manifest.json" ] && return
    python "$(dirname "$0")/close_ups.py" "${@:2}" --out "$work/$1-images"
    dcht encode "$work/$1-images" --ckpt "$tokenizer" --out "$work/$1" --size 128 --workers 2 --threads 1 --precision auto --compile
}
close near "$work/places-images" "$work/things-images"
close fixed "$work/places-images" --centered

# glibc gives large blocks back to the system after each use; keeping them saves a tenth of a step.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456
part() { echo "{kind: latents, root: $work/$1, weight: $2}"; }
leg() { # NUMBER EXPERIMENT FROM STEPS STORE ITS-WEIGHT MIXTURE OPTION...
    dcar-train +experiment="$2" tokenizer=small_deep tokenizer_ckpt="$tokenizer" init_from="$3" seed="$1" \
        model.generator.width=256 model.generator.mlp_dim=1024 model.generator.num_heads=8 \
        model.head.condition_dim=256 model.head.width=256 \
        data.root="$work/$5" data.weight="$6" "data.mixture=[$7]" steps="$(of "$4")" \
        batch_size=64 save_minutes=10 out="$work/leg$1" "${@:8}"
}
# Names come first, from close-ups: whole scenes of 358 names taught none in 1,800 steps (captions exchanged among images cost
# no cross-entropy), close-ups did within 400.
leg 1 scenes256 scratch 8000 fixed 0.5 "$(part near 0.5)" batch_size=256 optimizer.lr=1.5e-3 optimizer.final_lr=1.2e-3
small="$(part scenes 0.35), $(part grammar 0.2), $(part standard 0.15)"
leg 2 scenes256 "$work/leg1/checkpoint" 12000 things 0.3 "$small"
leg 3 scenes256 "$work/leg2/checkpoint" 12000 things 0.25 "$small" optimizer.lr=8e-4 optimizer.final_lr=1e-4
leg 4 scenes512 "$work/leg3/checkpoint" 3000 things 0.2 "$small, $(part scenes512 0.2), $(part standard512 0.15)" \
    optimizer.lr=6e-4 optimizer.final_lr=1e-5

judge() { # NAME OPTION...
    [ -f "$work/$1/results.json" ] || dcar-eval scenes-eval --ckpt "$work/leg4/checkpoint" --out "$work/$1" "${@:2}"
}
per_task=$(of 40)
judge standard-256 --num-per-task "$per_task" --sprites "$sprites"
judge standard-512 --num-per-task "$per_task" --sprites "$sprites" --size 512
judge hard --benchmark hard --num-per-task "$per_task"
judge things-judged --benchmark things
