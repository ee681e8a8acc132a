#!/usr/bin/env bash
# The generator of the big world, on a new tokenizer, from the bundled generator: names first, then sentences as they are arranged,
# then objects anywhere, then 512 px. Then what it is worth, by all three benchmarks.
#   benchmarks/paper/world.sh SPRITES TOKENIZER WORK [SHARE]
# SPRITES: node_modules with the art (docs/scenes.md). TOKENIZER: what tokenizer.sh made; its codes still mean much what the
# bundled ones do, so the bundled generator is a start. SHARE: of the images and steps, 1; a thousandth shows that everything
# fits. Data that is there is not made again, a leg that is done is not done again, and one that was stopped goes on. What is
# held out appears in no set. START, if set, is what leg 2 starts from, and leg 1 is left out (benchmarks/paper/start).
# Hardware: 2 CPU cores with AVX512-BF16 or AMX, nothing else on them: two ranks did 150 sequences a second at 256 px together, one
# beside another training 40. Time: data 1 to 2 core-hours (30 to 95 images a second were encoded, by the machine), leg 1 10 minutes
# of a core, legs 2 and 3 57 and 28 minutes at that rate; leg 4 was not timed.
# world_things.txt: 208 things that people type, by their 254 names: the commoner part of things.json (frequency in English by
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
store one 25500 0 256 "${hard[@]}" "$things" --task one
store places 25500 7 256 --objects "$things" --task single_object
store arranged 50000 21 256 --arranged "${hard[@]}" "$things"
store arranged-wide 20000 22 256 --arranged "${hard[@]}" wide
store standard 10000 3 256 --objects wide
store scenes 20000 1 256 "${hard[@]}" "$things"
store arranged512 5000 4 512 --arranged "${hard[@]}" "$things"
store standard512 4000 5 512 --objects wide
close() { # NAME FROM... [--centered]: windows of 128 px, 16 tokens, of scenes that show one thing
    [ -f "$work/$1/manifest.json" ] && return
    python "$(dirname "$0")/close_ups.py" "${@:2}" --out "$work/$1-images"
    dcht encode "$work/$1-images" --ckpt "$tokenizer" --out "$work/$1" --size 128 --workers 2 --threads 1 --precision auto --compile
}
close near "$work/places-images" "$work/one-images"
close fixed "$work/places-images" --centered

# glibc gives large blocks back to the system after each use; keeping them saves a tenth of a step.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456
part() { echo "{kind: latents, root: $work/$1, weight: $2}"; }
leg() { # NUMBER EXPERIMENT FROM STEPS STORE ITS-WEIGHT MIXTURE OPTION...
    torchrun --standalone --nproc-per-node "${RANKS:-2}" --no-python dcar-train \
        +experiment="$2" tokenizer=small_deep tokenizer_ckpt="$tokenizer" init_from="$3" seed="$1" \
        "model.text.joint.names=[$things]" data.root="$work/$5" data.weight="$6" "data.mixture=[$7]" \
        steps="$(of "$4")" batch_size=128 save_minutes=10 out="$work/leg$1" "${@:8}"
}
start=${START:-$work/leg1/checkpoint}
# Names come first, from close-ups: whole scenes of hundreds of names taught none in 1,800 steps, close-ups did within 400.
[ -n "${START:-}" ] || leg 1 scenes256 bundled 850 fixed 0.4 "$(part near 0.6)" \
    batch_size=256 optimizer.lr=1.5e-3 optimizer.final_lr=1.2e-3
# Then sentences, arranged, so that one has one picture. With objects anywhere, 400,000 sequences taught none of the sentences with
# several groups, and the samples were empty backgrounds; arranged, 256,000 (and 150,000 before, of another arrangement) draw 0.84 of
# the harder benchmark: start/generator.
leg 2 scenes256 "$start" 4000 arranged 0.4 \
    "$(part arranged-wide 0.4), $(part standard 0.2)" optimizer.lr=1.4e-3 optimizer.final_lr=8e-4
free="$(part scenes 0.1), $(part one 0.1)"
leg 3 scenes256 "$work/leg2/checkpoint" 2000 arranged 0.3 "$(part arranged-wide 0.3), $(part standard 0.2), $free" \
    optimizer.lr=8e-4 optimizer.final_lr=5e-5
leg 4 scenes512 "$work/leg3/checkpoint" 1500 arranged 0.2 \
    "$(part arranged-wide 0.2), $(part standard 0.2), $free, $(part arranged512 0.1), $(part standard512 0.1)" \
    optimizer.lr=6e-4 optimizer.final_lr=1e-5

judge() { # NAME OPTION...
    [ -f "$work/$1/results.json" ] || dcar-eval scenes-eval --ckpt "$work/leg4/checkpoint" --out "$work/$1" "${@:2}"
}
per_task=$(of 40)
judge standard-256 --num-per-task "$per_task" --sprites "$sprites"
judge standard-512 --num-per-task "$per_task" --sprites "$sprites" --size 512
judge hard --benchmark hard --num-per-task "$per_task"
judge things-judged --benchmark things
