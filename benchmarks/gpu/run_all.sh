#!/usr/bin/env bash
# Run run_all.py of this folder with the first Python that has torch (or $PYTHON), straight from a
# checkout: nothing needs to be installed but PyTorch and the packages of pyproject.toml's extras `gpu` and `export`.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH="benchmarks:runtime:train:export${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1
for python in "${PYTHON:-}" .venv-dev/bin/python .venv/bin/python python3; do
    if [ -n "$python" ] && "$python" -c 'import torch' 2>/dev/null; then
        exec timeout --signal=INT --kill-after=10 465 "$python" benchmarks/gpu/run_all.py "$@"
    fi
done
echo "run_all: error: no Python with torch: pip install -e '.[gpu,export]', or set PYTHON to one that has it" >&2
exit 2
