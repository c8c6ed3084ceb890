"""Preparation on a Ray cluster of several machines, one of which fails midway, writes the same shards."""

import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from command import Command
from made_media import ONE, TWO, flat_pictures, write_json3, write_srt, write_video
from test_prepare_again import written

from emotion_train.clips.reader import ShardSet

pytestmark = pytest.mark.nightly

VIDEOS = 18
SIZE = (320, 240)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """videos/ and captions/ of many short videos."""
    videos, captions = tmp_path / "videos", tmp_path / "captions"
    for index in range(VIDEOS):
        name = f"episode-{index:02d}"
        write_video(videos / f"{name}.mkv", flat_pictures(120, size=SIZE, shade=index % 2))
        if index % 2:
            write_json3(captions / f"{name}.en.json3", TWO)
        else:
            write_srt(captions / f"{name}.srt", ONE)
    return tmp_path


def test_a_machine_that_fails_midway_changes_nothing(prepare_data: Command, sentences: Path, many: Path):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster  # noqa: PLC0415 (optional)

    options = ["--videos", str(many / "videos"), "--captions", str(many / "captions")]
    options += ["--sentiment", "linear", "--sentences", str(sentences), "--max-neutral", "0.3"]
    options += ["--short-side", "240", "--clips-per-shard", "5"]
    assert prepare_data.main([*options, "--workers", "1", "--out", str(many / "alone")]) == 0

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        machines = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        out = many / "cluster"
        finished: list[int] = []

        def fail_midway() -> None:
            while len(done := list(out.glob("work/*.json"))) < VIDEOS // 3:
                time.sleep(0.05)
            cluster.remove_node(machines[0], allow_graceful=False)
            finished.append(len(done))

        failure = threading.Thread(target=fail_midway)
        failure.start()
        argv = [*options, "--engine", "ray", "--address", cluster.address, "--out", str(out)]
        assert prepare_data.main(argv) == 0
        failure.join()
        assert finished[0] < VIDEOS  # it failed while others were to do
    finally:
        cluster.shutdown()
    assert written(out) == written(many / "alone")
    keys = Counter(ShardSet.open(str(out)).keys)
    assert len(keys) == VIDEOS * 2
    assert set(keys.values()) == {1}
