"""Let four sources run for half an hour while two of them fail at random moments, and watch the process.

    python benchmarks/soak.py --film VIDEO                # 30 minutes; `--minutes 2` for a trial

The command `emotion-runtime` runs with a configuration file, as a service does: `door`, a camera of RTSP
(GStreamer's server, where it is installed: apt packages in docs/streams.md), which is killed and stopped;
`lobby`, MJPEG over HTTP, which is stalled and closed; `film` and `demo`, two files in real time, which must
not notice. Every ten seconds memory, threads and handles of the process are read. The JSON lines, which are
rotated, and the messages to systemd's watchdog are checked at the end. Written to --out: soak.json, soak.png.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emotion_bench.machine import card, cpu_name, folder_name
from emotion_bench.report import write_json
from emotion_bench.soak_lines import checked, read_lines
from emotion_bench.soak_parts import Fault, Faults, HttpCamera, RtspCamera, Watchdog, long_video
from emotion_bench.soak_plot import plot
from emotion_runtime.backends.onnx import usable_cores
from emotion_runtime.files import write_atomically

RESULTS = Path(__file__).resolve().parent / "results" / "soak"
SAMPLE = 10.0  # seconds between two samples
WATCHDOG = 30.0  # seconds, as in deploy/emotion-runtime.service
CONFIG = """
jsonl = "events.jsonl"
rotate = "5MB"
wall_clock = true
realtime = true
show = false
log_format = "json"

[sources]
{sources}
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    first, _, rest = (__doc__ or "").partition("\n\n")
    options = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = options.add_argument
    add("--minutes", type=float, default=30.0, help="length of the run (default: 30)")
    add("--film", type=Path, help="video that is repeated as the source film (default: the demo scene)")
    add("--seed", type=int, default=0, help="seed of the moments and kinds of faults (default: 0)")
    add("--out", type=Path, help="folder of the results (default: results/soak/<machine>)")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the soak, and return 0 if nothing was found to be wrong."""
    options = parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        result = soak(Path(folder), options.film, 60 * options.minutes, random.Random(options.seed))  # noqa: S311
    out = options.out or RESULTS / folder_name(cpu_name(), usable_cores())
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "soak.json", {"machine": card(), "minutes": options.minutes, **result})
    write_atomically(out / "soak.png", plot(result))
    for mistake in result["mistakes"]:
        print(f"wrong: {mistake}")
    print(f"wrote {out / 'soak.json'} and {out / 'soak.png'}")
    return 1 if result["mistakes"] else 0


def soak(folder: Path, film: Path | None, seconds: float, rng: random.Random) -> dict[str, Any]:
    """Run the command for some seconds among faults, and return what happened.

    Args:
        folder: Gets the videos, the configuration and the JSON lines.
        film: Video that is repeated. None: the demo scene.
        seconds: Length of the run.
        rng: Chooses the faults.
    """
    sources = {"lobby": "", "film": "film.mp4", "demo": "demo.mp4"}
    for name, video in (("film.mp4", film), ("demo.mp4", None)):
        long_video(folder / name, video, seconds + 120)
    faults = Faults(rng)
    lobby = HttpCamera()
    sources["lobby"] = lobby.uri
    faults.cameras["lobby"] = lobby
    if RtspCamera.is_available():
        door = RtspCamera()
        sources["door"] = door.uri
        faults.cameras["door"] = door
    watchdog = Watchdog(folder / "notify")
    lines = "\n".join(f'{name} = "{uri}"' for name, uri in sorted(sources.items()))
    (folder / "soak.toml").write_text(CONFIG.format(sources=lines), encoding="utf-8")
    command = [sys.executable, "-m", "emotion_runtime", "--config", "soak.toml"]
    environment = os.environ | watchdog.variables(WATCHDOG)
    try:
        with (folder / "messages.jsonl").open("wb") as messages:
            process = subprocess.Popen(command, cwd=folder, env=environment, stderr=messages)
            try:
                samples, begun = watch(process, seconds, faults, watchdog)
                stopped = time.monotonic()
                process.send_signal(signal.SIGTERM)
                status = process.wait(30)
                stop_seconds = time.monotonic() - stopped
            finally:
                process.kill()
                process.wait()
    finally:
        faults.close()
    return summary(
        folder,
        samples,
        faults.done,
        {
            "begun": begun,
            "status": status,
            "stop_seconds": round(stop_seconds, 2),
            "watchdog_gap": round(watchdog.longest_gap, 2),
        },
    )


def watch(
    process: "subprocess.Popen[bytes]", seconds: float, faults: Faults, watchdog: Watchdog
) -> tuple[list[dict[str, float]], float]:
    """Sample a process and cause faults until the time is over or it ends.

    Returns:
        The samples, with the seconds since the process was ready; and the wall-clock time of that moment.
    """
    watchdog.wait_until_ready(process)
    start, begun = time.monotonic(), time.time()
    samples: list[dict[str, float]] = []
    while (now := time.monotonic() - start) < seconds and process.poll() is None:
        if now >= len(samples) * SAMPLE:
            samples.append({"t": round(now, 1), **measured(process.pid)})
        faults.step(now, quiet_from=seconds - 40)
        watchdog.take()
        time.sleep(0.1)
    return samples, begun


def measured(pid: int) -> dict[str, float]:
    """Return memory in MB, threads and handles of a process (Linux)."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    )
    return {
        "rss_mb": round(int(fields["VmRSS"].split()[0]) / 1024, 1),
        "threads": int(fields["Threads"]),
        "handles": len(list(Path(f"/proc/{pid}/fd").iterdir())),
    }


def summary(
    folder: Path, samples: list[dict[str, float]], faults: list[Fault], run: dict[str, Any]
) -> dict[str, Any]:
    """Return the result: samples, faults with the time until the source was back, events, and mistakes."""
    lines = read_lines(folder, run["begun"])
    return {
        **run,
        "files": len(list(folder.glob("events*.jsonl"))),
        "samples": samples,
        "faults": [asdict(fault) | {"back": lines.back(fault)} for fault in faults],
        "events": {name: len(times) for name, times in lines.events.items()},
        "events_per_second": lines.rates(SAMPLE),
        "statuses": lines.statuses,
        "reconnections": lines.reconnections(faults),
        "memory_growth_mb": _growth(samples),
        "mistakes": checked(lines, samples, faults, run, watchdog=WATCHDOG),
    }


def _growth(samples: list[dict[str, float]]) -> float:
    """Return the mean memory of the last tenth of the run less that of the tenth after its first tenth."""
    part = max(len(samples) // 10, 1)
    early, late = samples[part : 2 * part] or samples, samples[-part:]
    means = [sum(sample["rss_mb"] for sample in some) / len(some) for some in (early, late)]
    return round(means[1] - means[0], 1)


if __name__ == "__main__":
    sys.exit(main())
