#!/usr/bin/env bash
# The bundled tokenizer's light decoder: about twelve minutes of one core with AMX, reckoned from the last leg. Three legs,
# each from what the one before it published, as long as they were when they were stopped. The first sees parts of images of every kind, the last whole scenes,
# whose objects stand where the bundled generator puts them. For another tokenizer one line is enough (docs/train-tokenizer.md).
#   benchmarks/paper/light.sh MIXED SCENES WORK
# MIXED: images of every kind, SCENES below it: `dcar-eval scenes --objects wide` (benchmarks/paper/tokenizer.sh makes both).
set -euo pipefail
[ $# -eq 3 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
mixed=$1 scenes=$2 work=$3
leg() { # NUMBER START IMAGES STEPS OPTION...
    dcht-train +experiment=light_decoder bf16=true trackers=[] out="$work/leg$1" init_from="$2" data.root="$3" \
        alternate_finetune.steps="$4" "${@:5}"
}
leg 1 bundled "$mixed" 902 data.crop=128 batch_size=16
leg 2 "$work/leg1/tokenizer" "$scenes" 232 data.crop=128 batch_size=16 optimizer.lr=1e-3 data.num_val=32
leg 3 "$work/leg2/tokenizer" "$scenes" 153 optimizer.lr=1e-3 data.num_val=16
python benchmarks/speed/light.py "$scenes" --ckpt "$work/leg3/tokenizer"
