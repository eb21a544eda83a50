#!/usr/bin/env bash
# PVTv2-B0 on easy Pathfinder-32, by way of short contours without distractors: on the easy images
# alone it stays at chance for longer than a CPU has patience.
#
#   scripts/pathfinder.sh softmax --attention softmax
#   scripts/pathfinder.sh eco --attention eco --group-bits 4
#
# The name is that of the runs, the rest goes to the first `train`. Data land in data/pathfinder,
# runs in runs/pathfinder/<name>-<contour length>. Started again after Ctrl-C it goes on.
set -euo pipefail
trap 'exit 130' INT # `train` ends well when it is stopped
cd "$(dirname "$0")/.."
ecoformer=build/ecoformer
data=data/pathfinder/pathfinder32
name=${1:?expected a name, and flags of the model}
run=runs/pathfinder/$name
shift

# images FOLDER FLAGS...: whole or not at all.
images() {
  [ ! -e "$data/$1" ] || return 0
  rm -rf data/pathfinder/unfinished
  $ecoformer data --task pathfinder "${@:2}" --output data/pathfinder/unfinished
  mkdir -p $data
  mv "data/pathfinder/unfinished/pathfinder32/$1" $data/
}
for length in 2 3 4; do
  images curv_contour_length_$length --contour-length $length --distractors 0 --count 60000
done
images curv_baseline --level easy --count 120000

# train_on LENGTH FOLDER FLAGS...
train_on() {
  if [ -e "$run-$1/last.safetensors" ]; then
    $ecoformer train --resume --output "$run-$1"
  else
    $ecoformer train --config configs/pathfinder.toml --data "pathfinder:$data/$2" \
      --output "$run-$1" "${@:3}"
  fi
}
train_on 2 curv_contour_length_2 --model pvt_v2_b0 --image-size 32 "$@" --steps 3000
train_on 3 curv_contour_length_3 --from "$run-2/last.safetensors" --steps 1500
train_on 4 curv_contour_length_4 --from "$run-3/last.safetensors" --steps 1500
train_on 6 curv_baseline --from "$run-4/last.safetensors" --steps 15000
$ecoformer evaluate --checkpoint "$run-6/best.safetensors" --data pathfinder:$data/curv_baseline
