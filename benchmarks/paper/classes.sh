#!/bin/sh
# Class-conditional training in small: ten classes of scenes (docs/train-generator.md): sh classes.sh SPRITES WORK
# SPRITES: node_modules with the art (docs/scenes.md). bf16 wants AVX512-BF16. A run that was stopped goes on.
set -eu
[ $# -eq 2 ] || { sed -n '2,/^set/s/^# //p' "$0" >&2; exit 2; }
sprites=$(cd "$1" && pwd) work=$2 here=$(cd "$(dirname "$0")" && pwd)
classes=apple,banana,bicycle,bus,cake,car,cat,clock,dog,umbrella
mkdir -p "$work" && cd "$work" && work=$PWD

place() { mkdir -p "$2" && cp "$1" "$2"; }

for part in train true; do
  [ $part = train ] && count="--num 1000 --seed 1" || count="--num 100 --seed 2"
  dcar-eval scenes --sprites "$sprites" --objects $classes --task single_object $count --out scenes-$part
  for truth in scenes-$part/*/*.json; do
    place "${truth%.json}.jpg" "$part/$(sed 's/.*"class": "\([^"]*\)".*/\1/' "$truth")"
  done
done
dcht encode train --out latents
dcht reconstruct true --out reconstructed
dcar-train +experiment=imagenet_class256 model.generator.depth=6 model.generator.width=192 \
  model.generator.num_heads=6 model.generator.mlp_dim=768 model.generator.text_dim=128 model.generator.qk_norm=true \
  model.generator.attention_dropout=0 model.generator.fully_masked=0.25 \
  model.head.condition_dim=192 model.head.width=192 model.head.depth=3 model.head.batch_mul=1 \
  data.root=latents out=run steps=1200 batch_size=32 accumulate=1 bf16=true compile=true loss.diffusion=10 \
  optimizer.lr=1.2e-3 optimizer.final_lr=1e-5 optimizer.warmup_steps=50 'optimizer.betas=[0.9,0.98]' optimizer.ema_decay=0.99 \
  sampling.num_steps=24 sampling.cfg_scale=0.5 sampling.temperature=0.7 sampling.order=halton sampling.head_temperature=0 \
  sampling.schedule=cosine log_every=20 save_every=400 sample_every=400
echo $classes | tr , '\n' | dcar generate --prompts - --num-images 10 --captions --ckpt run/checkpoint --out images
for caption in images/*.txt; do
  place "${caption%.txt}.png" "drawn/$(cat "$caption")"
done
python "$here/miniature.py" gather classes "$work"
