#!/usr/bin/env bash
# The scenes benchmark: the bundled checkpoint at 256 and 512 px beside the true scenes, and the same images after 16 x 16 pixels.
#   benchmarks/paper/standard.sh SPRITES WORK [CKPT...]
# SPRITES: node_modules with the art (docs/scenes.md). CKPT: others to judge so, an older release's (docs/bundled-checkpoint.md).
# LPIPS where $DCHT_PERCEPTUAL_WEIGHTS names the weights. What is done is not done again, and what was interrupted goes on.
# Hardware: 1 CPU core; time: 20 minutes a checkpoint.
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
sprites=$1 work=$2 number=0
judge() { # NAME OPTION...: at once where it is done; refused where it is of other weights
    dcar-eval scenes-eval --sprites "$sprites" --out "$work/$1" "${@:2}"
}
shrunk() { # NAME: its images, beside the settings that say what they are of
    [ -f "$work/$1-shrunk/results.json" ] && return
    mkdir -p "$work/shrunk/$1" && cp "$work/$1/settings.json" "$work/shrunk/$1/"
    python "$(dirname "$0")/spoil.py" "$work/$1/images" "$work/shrunk/$1/images" --shrink 16
}
for ckpt in "" "${@:3}"; do # the first: what is bundled
    for run in "256 40" "512 20"; do
        read -r size count <<<"$run"
        judge "$number-$size" ${ckpt:+--ckpt "$ckpt"} --num-per-task "$count" --size "$size"
        shrunk "$number-$size"
        judge "$number-$size-shrunk" ${ckpt:+--ckpt "$ckpt"} --num-per-task "$count" --images "$work/shrunk/$number-$size/images"
    done
    number=$((number + 1))
done
python "$(dirname "$0")/miniature.py" gather standard "$work"
