#!/bin/sh
# What fine-tuning forgets, with rehearsal and without (docs/finetune.md): sh rehearsal.sh SPRITES WORK
# Twenty things that release 0.1.0's checkpoint had never seen, 300 steps; both worlds before and after. Of seed 5 none is
# one of its thirty objects drawn anew: that would be a contradiction, not forgetting. Run at commit 063c43e: later weights
# know eight of the twenty. bf16 wants AVX512-BF16. A run that was stopped goes on.
set -eu
[ $# -eq 2 ] || { sed -n '2,/^set/s/^# //p' "$0" >&2; exit 2; }
sprites=$(cd "$1" && pwd) work=$2 here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work" && cd "$work" && work=$PWD
dcar-eval scenes --sprites "$sprites" --grammar hard --objects things --task one --num 20 --seed 5 --out things
mkdir -p new
for image in things/part-0000/*.jpg; do
  name=$(basename "$image" .jpg)
  cp "$image" "new/$name.jpg"
  head -1 "things/part-0000/$name.txt" > "new/$name.txt"
done
dcht encode new --out latents
dcar-eval scenes --num 256 --objects wide --out known.txt
dcar generate --prompts known.txt --captions --out drawn
dcht encode drawn --out rehearsal
dcar-train +experiment=finetune init_from=bundled data.root=latents bf16=true out=runs/alone
dcar-train +experiment=finetune init_from=bundled data.root=latents data.weight=1 \
  'data.mixture=[{kind: latents, root: rehearsal, weight: 2}]' bf16=true out=runs/rehearsed
dcar-eval scenes-eval --objects wide --num-per-task 20 --out eval/before
for run in alone rehearsed; do
  dcar-eval scenes-eval --ckpt runs/$run/checkpoint --objects wide --num-per-task 20 --out eval/$run
  python "$here/memorized.py" show new --ckpt runs/$run/checkpoint --out $run.png > $run.json
done
python "$here/miniature.py" gather rehearsal "$work"
