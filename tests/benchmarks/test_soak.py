"""The soak: what it reads from the lines, what it calls wrong, and its parts."""

import json
import random
from datetime import datetime, timezone
from pathlib import Path

import av
import pytest

import soak
from emotion_bench.soak_lines import Lines, checked, read_lines
from emotion_bench.soak_parts import Fault, Faults, long_video
from emotion_bench.soak_plot import plot

WHOLE = {"status": 0, "watchdog_gap": 9.0}


def at(seconds: float) -> str:
    return datetime.fromtimestamp(1000.0 + seconds, timezone.utc).isoformat()


def event(source: str, frame: int, seconds: float) -> dict:
    return {"type": "frame", "source": source, "frame": frame, "time": at(seconds)}


def status(source: str, kind: str, seconds: float) -> dict:
    return {"type": "status", "source": source, "status": kind, "reason": None, "time": at(seconds)}


def written(path: Path, *lines: dict | str) -> None:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))


def test_lines_of_rotated_files_are_read_in_order(tmp_path: Path) -> None:
    written(tmp_path / "events-0001.jsonl", {"type": "run"}, event("a", 0, 1.0), status("a", "lost", 2.0))
    written(tmp_path / "events-0002.jsonl", status("a", "connecting", 3.0), status("a", "live", 4.0))
    written(tmp_path / "events.jsonl", event("a", 7, 5.0), event("b", 3, 5.0), event("b", 3, 6.0), "{")
    lines = read_lines(tmp_path, 1000.0)
    assert lines.events == {"a": [1.0, 5.0], "b": [5.0, 6.0]}
    faults = [
        Fault("a", "stopped", 1.5, 4.5),
        Fault("a", "stopped", 4.6, 4.9),
        Fault("b", "killed", 1.0, 2.0),
    ]
    assert lines.reconnections(faults) == {"a": 1, "b": 1}
    assert (lines.broken, lines.disordered) == (1, {"b": 1})
    assert lines.back(Fault("a", "killed", 1.5, 4.5)) == 0.5
    assert lines.back(Fault("a", "killed", 1.5, 6.5)) is None
    assert lines.rates(2.0) == {"a": [0.5, 0.0, 0.5], "b": [0.0, 0.0, 0.5]}


def samples(**last: float) -> list[dict[str, float]]:
    values = {"rss_mb": 300.0, "threads": 20, "handles": 12}
    found = [{"t": 10.0 * index, **values} for index in range(30)]
    for sample in found[-6:]:
        sample.update(last)
    return found


def lines(film: list[float] | None = None, **others: object) -> Lines:
    every_second = [float(second) for second in range(300)]
    events = {"film": film or every_second, "demo": every_second, "door": every_second}
    return Lines(**{"events": events, "statuses": [], "broken": 0, "disordered": {}} | others)


@pytest.mark.parametrize(
    ("found", "measured", "run", "expected"),
    [
        (lines(), samples(), WHOLE, None),
        (lines(), samples(), WHOLE | {"status": 2}, "the exit status is 2"),
        (lines(), samples(), WHOLE | {"watchdog_gap": 31.0}, "no sign of life for 31.0 s"),
        (lines(broken=2), samples(), WHOLE, "2 lines are not JSON"),
        (lines(disordered={"film": 3}), samples(), WHOLE, "3 frames of film came twice"),
        (lines(film=[0.0, 9.0]), samples(), WHOLE, "film has a gap of 9.0 s"),
        (lines(), samples(rss_mb=400.0), WHOLE, "memory grew from 300.0 to 400.0 MB"),
        (lines(), samples(threads=25), WHOLE, "threads grew from 20 to 25"),
        (lines(), samples(handles=15), WHOLE, "handles grew from 12 to 15"),
    ],
)
def test_what_is_wrong(found: Lines, measured: list, run: dict, expected: str | None) -> None:
    mistakes = checked(found, measured, [Fault("door", "killed", 10.0, 12.0)], run, watchdog=30.0)
    assert len(mistakes) == (0 if expected is None else 1)
    assert expected is None or expected in mistakes[0]


def test_camera_that_does_not_come_back_is_wrong() -> None:
    faults = [Fault("door", "stopped", 10.0, 400.0), Fault("lobby", "closed", 10.0, 12.0)]
    mistakes = checked(lines(), samples(), faults, WHOLE, watchdog=30.0)
    assert mistakes == ["door was back never, stopped at 10 s", "lobby was back never, closed at 10 s"]


class Camera:
    kinds = ("killed",)

    def __init__(self) -> None:
        self.broken = False

    def break_down(self, kind: str) -> None:
        assert kind in self.kinds
        assert not self.broken
        self.broken = True

    def repair(self) -> None:
        self.broken = False

    def close(self) -> None:
        pass


def test_faults_come_one_at_a_time_and_end() -> None:
    faults, camera = Faults(random.Random(0)), Camera()  # noqa: S311
    faults.cameras["door"] = camera
    for tenth in range(18_000):
        faults.step(tenth / 10, quiet_from=1700.0)
    assert not camera.broken
    assert 20 < len(faults.done) < 60
    assert all(fault.start < fault.end <= 1720 for fault in faults.done)
    assert all(a.end < b.start for a, b in zip(faults.done, faults.done[1:], strict=False))


@pytest.mark.slow
def test_video_is_repeated_without_gaps(tmp_path: Path) -> None:
    long_video(tmp_path / "long.mp4", None, 13.0)
    with av.open(str(tmp_path / "long.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([index / 25 for index in range(len(times))], abs=1e-3)
    assert 13 <= times[-1] < 20


@pytest.mark.slow
def test_plot_is_drawn() -> None:
    result = {
        "samples": samples(),
        "events_per_second": {"door": [1.0] * 30, "film": [2.0] * 30},
        "faults": [
            {"source": "door", "kind": "killed", "start": 20.0, "end": 30.0, "back": 1.2},
            {"source": "door", "kind": "killed", "start": 60.0, "end": 70.0, "back": None},
        ],
    }
    assert plot(result).startswith(b"\x89PNG")
    assert soak.parser().parse_args(["--minutes", "1"]).minutes == 1
