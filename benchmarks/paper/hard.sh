#!/usr/bin/env bash
# The harder benchmark of scenes, by fixed_prompts.sh. Hardware: 1 CPU core; time: 10 minutes a checkpoint, 10 for the true scenes.
#   benchmarks/paper/hard.sh SPRITES WORK [CKPT...]
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
exec "$(dirname "$0")/fixed_prompts.sh" hard "$@"
