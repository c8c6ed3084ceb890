#!/usr/bin/env bash
# Measure streams, crowds, cameras and the targets on this machine, and write them into docs/benchmarks.md.
# Six minutes, on a machine that does nothing else. With --quick: a trial of a minute, which needs --out DIR.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
for name in targets stream crowd scale; do
    "$python" "benchmarks/bench_$name.py" "$@"
done
case " $* " in
    *" --out "*) ;;
    *) "$python" benchmarks/result_tables.py ;;
esac
