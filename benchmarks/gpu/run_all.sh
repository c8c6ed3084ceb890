#!/usr/bin/env bash
# Run run_all.py of this folder straight from a checkout, with $PYTHON or the first Python whose ONNX Runtime
# has CUDA. Nothing needs to be installed but the packages of pyproject.toml with the extra `gpu`; PyTorch is
# optional. Folders of packages that are not installed belong on PYTHONPATH.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH="benchmarks:runtime:train:export${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1
export PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
candidates=("${PYTHON:-.venv/bin/python}")
[ -n "${PYTHON:-}" ] || candidates+=(.venv-dev/bin/python python3)
list='import msgspec, onnxruntime as o; print(*o.get_available_providers())' found='' reason=''
for python in "${candidates[@]}"; do
    if ! providers=$("$python" -c "$list" 2>/dev/null); then
        reason=$("$python" -c "$list" 2>&1 | tail -n 1) || true
        continue
    fi
    found=${found:-$python}
    if [[ $providers == *CUDA* ]]; then found=$python; break; fi
done
if [ -z "$found" ]; then
    echo "run_all: error: no Python with onnxruntime and msgspec (${candidates[-1]}: $reason):" \
        "pip install -e '.[gpu]', or set PYTHON" >&2
    exit 2
fi
# CUDA's libraries of pip packages are found beside onnxruntime only: name their folders, wherever they are.
libraries=$("$found" -c 'import glob, nvidia; print(*(x for p in nvidia.__path__ for x in glob.glob(p + "/*/lib")), sep=":")' 2>/dev/null) || libraries=
export LD_LIBRARY_PATH="${libraries:+$libraries:}${LD_LIBRARY_PATH:-}"
exec timeout --signal=INT --kill-after=10 500 "$found" benchmarks/gpu/run_all.py "$@"
