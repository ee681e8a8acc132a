#!/usr/bin/env bash
# Every thing that a checkpoint knows, alone, by fixed_prompts.sh. Hardware: 1 CPU core; time: 4 minutes a checkpoint, 5 for the
# true images.
#   benchmarks/paper/things.sh SPRITES WORK [CKPT...]
set -euo pipefail
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
exec "$(dirname "$0")/fixed_prompts.sh" things "$@"
