#!/usr/bin/env bash
# A benchmark of fixed prompts: the bundled checkpoint, its images after 16 x 16 pixels, and true images, as they are and through
# the bundled tokenizer. hard.sh and things.sh call it.
#   benchmarks/paper/fixed_prompts.sh hard|things SPRITES WORK [CKPT...]
# SPRITES: node_modules with the art (docs/scenes.md). CKPT: others to judge so, an older release's (docs/bundled-checkpoint.md).
# What is done is not done again, and what was interrupted goes on.
set -euo pipefail
[ $# -ge 3 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
benchmark=$1 sprites=$2 work=$3 number=0 here=$(dirname "$0")
judge() { # NAME OPTION...: at once where it is done; refused where it is of other weights
    dcar-eval scenes-eval --benchmark "$benchmark" --out "$work/$1" "${@:2}"
}
shrunk() { # NAME: its images, beside the settings that say what they are of
    [ -f "$work/$1-shrunk/results.json" ] && return
    mkdir -p "$work/shrunk/$1" && cp "$work/$1/settings.json" "$work/shrunk/$1/"
    python "$here/spoil.py" "$work/$1/images" "$work/shrunk/$1/images" --shrink 16
}
mkdir -p "$work"
[ -s "$work/ceiling.json" ] || python -m dcar_eval.commands.ceiling "$sprites" --benchmark "$benchmark" >"$work/ceiling.json"
for ckpt in "" "${@:4}"; do # the first: what is bundled
    judge "$number" ${ckpt:+--ckpt "$ckpt"}
    shrunk "$number"
    judge "$number-shrunk" --images "$work/shrunk/$number/images"
    number=$((number + 1))
done
python "$here/miniature.py" gather "$benchmark" "$work"
