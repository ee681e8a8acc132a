#!/usr/bin/env bash
# The generator of the big world, on a new tokenizer, from release 0.1.0's generator: names first, then sentences as they are
# arranged, then these with single things, scenes of 512 px and a residual that weighs more, then things by their names alone, then
# a third at 512 px. Then what it is worth, by all three benchmarks.
#   benchmarks/paper/world.sh SPRITES TOKENIZER WORK [SHARE]
# SPRITES: node_modules with the art (docs/scenes.md). TOKENIZER: what tokenizer.sh made; its codes still mean much what those of
# release 0.1.0 do, so that one's generator is a start. SHARE: of the images and steps, 1; a thousandth shows that everything
# fits. Data that is there is not made again, a leg that is done is not done again, and one that was stopped goes on. What is
# held out appears in no set. START, if set, is what leg 5 starts from, and the legs before it are left out: the bundled generator, say.
# Hardware: 2 CPU cores with AVX512-BF16 or AMX, nothing else on them. Time: 27 to 42 images of 256 px were encoded a second, 3.4 to 11 of 512 px;
# two ranks did 150 sequences a second at 256 px together on a good day, 50 to 110 with 512 px among them. A rank's memory grows from 4 to
# 7 GiB in ten minutes, large blocks that glibc keeps (below); that cost no speed, and a process that starts again (the same
# command) gives them back.
# world_things.txt: 203 things that people type, by their 249 names: the commoner part of things.json (frequency in English by
# the package wordfreq), people and what looks like something else left out by hand.
set -euo pipefail
[ $# -ge 3 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 tokenizer=$2 work=$3 share=${4:-1}
of() { python -c "import math, sys; print(max(math.ceil(float(sys.argv[1]) * $share), 1))" "$1"; }

things=$(paste -sd, "$(dirname "$0")/world_things.txt")
store() { # NAME NUMBER SEED SIZE OPTION...
    grep -qs "^ \"count\": $(of "$2"),$" "$work/$1/manifest.json" && return
    dcar-eval scenes --sprites "$sprites" --out "$work/$1-images" --num "$(of "$2")" --seed "$3" --size "$4" "${@:5}"
    dcht encode "$work/$1-images" --ckpt "$tokenizer" --out "$work/$1" --size "$4" --workers 2 --threads 1 --shard-size 512 --precision auto
}
hard=(--grammar hard --objects)
store arranged 14000 41 256 --arranged "${hard[@]}" "$things"
store ones 18500 41 256 --arranged "${hard[@]}" "$things" --task one
store arranged-wide 9000 42 256 --arranged "${hard[@]}" wide
store standard 8000 33 256 --objects wide
store standard512 4000 31 512 --objects wide
store arranged512 2000 43 512 --arranged "${hard[@]}" "$things"
store gathered512 1500 2 512 --objects wide --task gathering
store named512 1500 52 512 --objects "$things" --task single_object
store named 4500 51 256 --objects "$things" --task single_object
close() { # NAME FROM... [--centered]: windows of 128 px, 16 tokens, of scenes that show one thing
    [ -f "$work/$1/manifest.json" ] && return
    python "$(dirname "$0")/close_ups.py" "${@:2}" --out "$work/$1-images"
    dcht encode "$work/$1-images" --ckpt "$tokenizer" --out "$work/$1" --size 128 --workers 2 --threads 1 --shard-size 512 --precision auto
}

# glibc gives large blocks back to the system after each use; keeping them saves a tenth of a step.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456
part() { echo "{kind: latents, root: $work/$1, weight: $2}"; }
leg() { # NUMBER EXPERIMENT FROM STEPS STORE ITS-WEIGHT MIXTURE OPTION...
    torchrun --standalone --nproc-per-node "${RANKS:-2}" --no-python dcar-train \
        +experiment="$2" tokenizer=small_deep tokenizer_ckpt="$tokenizer" init_from="$3" seed="$1" \
        "model.text.joint.names=[$things]" data.root="$work/$5" data.weight="$6" "data.mixture=[$7]" \
        steps="$(of "$4")" batch_size=128 save_minutes=10 out="$work/leg$1" "${@:8}"
}
residual=(loss.diffusion=20 sampling.head_guidance=off)
if [ -z "${START:-}" ]; then
    # Names come first, from close-ups: whole scenes of hundreds of names taught none in 1,800 steps, close-ups did within 400.
    store one 25500 0 256 "${hard[@]}" "$things" --task one
    store places 25500 7 256 --objects "$things" --task single_object
    close near "$work/places-images" "$work/one-images"
    close fixed "$work/places-images" --centered
    old=$work/release-0.1.0
    mkdir -p "$old"
    [ -f "$old/config.json" ] || git -C "$(dirname "$0")/../.." archive 5537f67:packages/dcar/src/dcar/checkpoints/default |
        tar -x -C "$old"
    leg 1 scenes256 "$old" 850 fixed 0.4 "$(part near 0.6)" batch_size=256 optimizer.lr=1.5e-3 optimizer.final_lr=1.2e-3
    # Then sentences, arranged, so that one has one picture. With objects anywhere, 400,000 sequences taught none of the sentences
    # with several groups, and the samples were empty backgrounds; arranged, 256,000 (and 150,000 before, of another arrangement)
    # draw 0.84 of the harder benchmark.
    leg 2 scenes256 "$work/leg1/checkpoint" 4000 arranged 0.4 \
        "$(part arranged-wide 0.4), $(part standard 0.2)" optimizer.lr=1.4e-3 optimizer.final_lr=8e-4
    # The residual weighs more, and is drawn without guidance: of 36 held-out prompts that gave 0.2 dB of the objects (`dcar-eval
    # sweep head_guidance=same,off`). The run had 6,037 of `ones`, all 3,737 that name neither color nor size among them, and 8,000,
    # 6,000 and 6,000 of the other sets; 358 of 1,500 steps, and 820 from their averaged weights with a schedule of their own.
    leg 3 scenes256 "$work/leg2/checkpoint" 1200 arranged 0.28 \
        "$(part ones 0.2), $(part arranged-wide 0.18), $(part standard 0.2), $(part standard512 0.14)" \
        "${residual[@]}" optimizer.lr=1.4e-3 optimizer.final_lr=5e-5 optimizer.warmup_steps=50
    # A quarter of what is seen is a thing by its name alone: 159 of 203 could be told before, 168 after 904 of 2,000 steps, 176 after
    # 580 from their averaged weights with a schedule of their own.
    leg 4 scenes256 "$work/leg3/checkpoint" 1500 named 0.25 \
        "$(part ones 0.15), $(part arranged 0.2), $(part arranged-wide 0.15), $(part standard 0.15), $(part standard512 0.1)" \
        "${residual[@]}" optimizer.lr=1.4e-3 optimizer.final_lr=2e-5 optimizer.warmup_steps=20
fi
# A third at 512 px, of which gatherings leave little background: objects at 512 px were 1.1 dB below release 0.1.0's. The run had
# 3,500 of `named` and `standard`, 4,500 of `ones` and `arranged` and 3,000 of `arranged-wide`.
leg 5 scenes256 "${START:-$work/leg4/checkpoint}" 1100 named 0.17 \
    "$(part standard512 0.14), $(part arranged512 0.07), $(part gathered512 0.07), $(part named512 0.06), \
$(part ones 0.12), $(part arranged 0.14), $(part arranged-wide 0.11), $(part standard 0.12)" \
    "${residual[@]}" optimizer.lr=1.2e-3 optimizer.final_lr=2e-5 optimizer.warmup_steps=20

judge() { # NAME OPTION...: at once where it is done; refused where it is of other weights
    dcar-eval scenes-eval --ckpt "$work/leg5/checkpoint" --out "$work/$1" "${@:2}"
}
per_task=$(of 40)
judge standard-256 --num-per-task "$per_task" --sprites "$sprites"
judge standard-512 --num-per-task "$per_task" --sprites "$sprites" --size 512
judge hard --benchmark hard --num-per-task "$per_task"
judge things-judged --benchmark things
