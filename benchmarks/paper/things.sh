#!/usr/bin/env bash
# The benchmark of things: all that the bundled checkpoint knows, its images after 16 x 16 pixels, and true images of every
# thing, as they are and through the bundled tokenizer.
#   benchmarks/paper/things.sh SPRITES WORK [CKPT...]
# SPRITES: node_modules with the art (docs/scenes.md). CKPT: others to judge so, an older release's (docs/bundled-checkpoint.md).
# What is done is not done again. Hardware: 1 CPU core; time: 4 minutes a checkpoint, 5 for the true images.
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 work=$2 number=0
judge() { # NAME OPTION...
    [ -f "$work/$1/results.json" ] || dcar-eval scenes-eval --benchmark things --out "$work/$1" "${@:2}"
}
shrunk() { # NAME: its images, beside the settings that say what they are of
    mkdir -p "$work/shrunk/$1" && cp "$work/$1/settings.json" "$work/shrunk/$1/"
    [ -d "$work/shrunk/$1/images" ] ||
        python "$(dirname "$0")/spoil.py" "$work/$1/images" "$work/shrunk/$1/images" --shrink 16
}
mkdir -p "$work"
[ -s "$work/ceiling.json" ] || python -m dcar_eval.commands.ceiling "$sprites" --benchmark things >"$work/ceiling.json"
for ckpt in "" "${@:3}"; do # the first: what is bundled
    judge "$number" ${ckpt:+--ckpt "$ckpt"}
    shrunk "$number"
    judge "$number-shrunk" --images "$work/shrunk/$number/images"
    number=$((number + 1))
done
python "$(dirname "$0")/miniature.py" gather things "$work"
