#!/usr/bin/env bash
# PVTv2-B0 on easy Pathfinder-32, by way of short contours without distractors: on the easy images
# alone it stays at chance for longer than a CPU has patience.
#
#   scripts/pathfinder.sh softmax --attention softmax
#   scripts/pathfinder.sh eco --attention eco --group-bits 4
#
# The name is that of the runs, the rest goes to the first `train`. Data land in data/pathfinder,
# runs in runs/pathfinder/<name>-<contour length>.
set -euo pipefail
cd "$(dirname "$0")/.."
ecoformer=build/ecoformer
data=data/pathfinder/pathfinder32
name=${1:?expected a name, and flags of the model}
run=runs/pathfinder/$name
shift

for length in 2 3 4; do
  [ -e $data/curv_contour_length_$length ] ||
    $ecoformer data --task pathfinder --contour-length $length --distractors 0 --count 60000 \
      --output data/pathfinder
done
[ -e $data/curv_baseline ] ||
  $ecoformer data --task pathfinder --level easy --count 120000 --output data/pathfinder

train="$ecoformer train --config configs/pathfinder.toml"
$train --model pvt_v2_b0 --image-size 32 "$@" --steps 3000 \
  --data pathfinder:$data/curv_contour_length_2 --output "$run-2"
$train --from "$run-2/last.safetensors" --steps 1500 \
  --data pathfinder:$data/curv_contour_length_3 --output "$run-3"
$train --from "$run-3/last.safetensors" --steps 1500 \
  --data pathfinder:$data/curv_contour_length_4 --output "$run-4"
$train --from "$run-4/last.safetensors" --steps 15000 \
  --data pathfinder:$data/curv_baseline --output "$run-6"
$ecoformer evaluate --checkpoint "$run-6/best.safetensors" --data pathfinder:$data/curv_baseline
