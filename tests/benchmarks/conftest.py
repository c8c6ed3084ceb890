"""The benchmarks' folder is a source root of scripts, which Python finds when one of them is run."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
