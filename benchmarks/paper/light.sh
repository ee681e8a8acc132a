#!/usr/bin/env bash
# The bundled tokenizer's light decoder: ten minutes of one core with AMX that did other work, too. Two legs: the first sees parts of images of
# every kind, the second of scenes, whose objects stand where the bundled generator puts them. For another tokenizer one line is
# enough (docs/train-tokenizer.md).
#   benchmarks/paper/light.sh TOKENIZER CHOSEN WORK
# TOKENIZER: without a light decoder, what tokenizer.sh made. CHOSEN: its images (data/chosen).
set -euo pipefail
[ $# -eq 3 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
tokenizer=$1 chosen=$2 work=$3
leg() { # NUMBER START IMAGES OPTION...
    dcht-train +experiment=light_decoder bf16=true trackers=[] out="$work/leg$1" init_from="$2" data.root="$3" \
        alternate_finetune.steps=600 data.crop=128 batch_size=16 "${@:4}"
}
[ -d "$work/scenes" ] || { mkdir -p "$work/scenes" && cp -al "$chosen"/{scenes,standard,arranged} "$work/scenes"; }
leg 1 "$tokenizer" "$chosen"
leg 2 "$work/leg1/tokenizer" "$work/scenes" optimizer.lr=1.2e-3 optimizer.final_lr=2e-4
python benchmarks/speed/light.py "$chosen/scenes" --ckpt "$work/leg2/tokenizer"
