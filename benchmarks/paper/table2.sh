#!/usr/bin/env bash
# Table 2's efficiency columns in miniature: the bundled checkpoint at 256 and 512 px, latency at batch 1 and throughput
# at batch 16, as section 4.1 has it. Run it on an idle machine.
#   benchmarks/paper/table2.sh WORK [REPEATS]     REPEATS: batches timed, 1 of them
set -euo pipefail
[ $# -ge 1 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
work=$1 repeats=${2:-1}
for size in 256 512; do
    dcar-eval profile --size "$size" --precision fp32,bf16 --repeats "$repeats" --out "$work/$size"
done
python benchmarks/paper/miniature.py gather table2 "$work"
