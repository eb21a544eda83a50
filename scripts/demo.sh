#!/usr/bin/env bash
# The main job end to end on short ListOps: train a dense transformer, convert it, fine-tune it, and
# show accuracy, energy and milliseconds side by side. Everything lands in runs/demo/.
set -euo pipefail
trap 'exit 130' INT # `train` ends well when it is stopped
cd "$(dirname "$0")/.."
ecoformer=build/ecoformer
out=runs/demo
rm -rf "$out"
mkdir -p "$out"

step() { printf '\n== %s\n' "$1" >&2; }

step "data: ListOps expressions of 64 to 256 tokens"
$ecoformer data --task listops --output $out/data --train 20000 --validation 1000 --test 2000 \
  --min-length 63 --max-length 257 --seed 1

step "train: a dense transformer"
$ecoformer train --config configs/demo.toml --data listops:$out/data --output $out/dense

step "convert: learn the hash functions from its own attention"
$ecoformer convert --checkpoint $out/dense/best.safetensors --data listops:$out/data \
  --output $out/converted.safetensors

step "fine-tune: the converted model, half as long, at a third of the rate"
$ecoformer train --from $out/converted.safetensors --data listops:$out/data --output $out/finetuned \
  --steps 750 --batch-size 32 --learning-rate 3e-4 --warmup-steps 75 --weight-decay 0.01 \
  --clip-norm 1.0 --eval-every 150 --checkpoint-every 750

step "evaluate: dense, converted, fine-tuned"
models=(--checkpoint $out/dense/best.safetensors --checkpoint $out/converted.safetensors
  --checkpoint $out/finetuned/best.safetensors)
$ecoformer evaluate "${models[@]}" --data listops:$out/data --format json >$out/table.json
$ecoformer evaluate --checkpoint $out/converted.safetensors --data listops:$out/data \
  --split validation --format json >$out/converted.json
.venv/bin/python scripts/demo_report.py $out
