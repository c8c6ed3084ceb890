#!/usr/bin/env bash
# Train nano on one GPU with several seeds side by side, and measure each run on validation faces:
#
#   bash benchmarks/gpu/train_nano.sh ../shared runs/seeds 0 1 2
#
# The first argument is the data folder, the second the folder of the runs. Runs from a checkout, with $PYTHON
# (default: python3), which needs the packages of the extra `train`. Rendering the scenes sets the pace: the
# cores are shared by the seeds. A run that is there already continues.
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: train_nano.sh DATA OUT SEED..." >&2; exit 2; }
data=$(realpath "$1") out=$(realpath -m "$2")
shift 2
cd "$(dirname "$0")/../.."
export PYTHONPATH="runtime:train:benchmarks${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
python=${PYTHON:-python3}
workers=$(($(nproc) / $# > 1 ? $(nproc) / $# - 1 : 1))
mkdir -p "$out"
[ -s "$out/predictions.npz" ] || "$python" -m emotion_train.cli predict-votes --data "$data" \
    --folds 3 --epochs 30 --out "$out/predictions.npz"

train() {
    local run=$out/seed-$1 resume=()
    sed "s/^seed = .*/seed = $1/; s/^workers = .*/workers = $workers/" train/configs/nano.toml > "$run.toml"
    [ ! -f "$run/checkpoint.pt" ] || resume=(--resume)
    "$python" train/pretrain.py --config "$run.toml" --data "$data" --predictions "$out/predictions.npz" \
        --out "$run" "${resume[@]}" > "$run.log" 2>&1
    "$python" benchmarks/bench_conditions.py --data "$data" --checkpoint "$run/checkpoint.pt" --faces 800 \
        --out "$run/conditions" >> "$run.log" 2>&1
}

declare -A processes
for seed in "$@"; do
    train "$seed" &
    processes[$seed]=$!
done
status=0
for seed in "$@"; do
    wait "${processes[$seed]}" || { echo "seed $seed failed: see $out/seed-$seed.log" >&2; status=1; continue; }
    echo "seed $seed: $out/seed-$seed/conditions/conditions.md"
done
exit $status
