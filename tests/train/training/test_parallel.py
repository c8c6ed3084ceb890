"""What the processes of `torchrun` are refused for before they wait for each other."""

import re

import pytest
import torch
from command import Command

from emotion_runtime.errors import EmotionError
from emotion_train.training.parallel import joined_world


def set_ranks(patch: pytest.MonkeyPatch, rank: int, processes: int) -> None:
    """Set what torchrun sets on one machine."""
    values = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": processes,
        "LOCAL_WORLD_SIZE": processes,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": 1,  # nothing listens there
    }
    for name, value in values.items():
        patch.setenv(name, str(value))


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_more_processes_than_gpus_are_refused_in_all_of_them(rank: int, monkeypatch: pytest.MonkeyPatch):
    """Also those that have a GPU, which would wait for the others."""
    set_ranks(monkeypatch, rank, 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    message = "torchrun started 3 processes on this machine, but 2 GPUs can be used, .* --nproc-per-node 2,"
    with pytest.raises(EmotionError, match=message), joined_world():
        pass


def test_as_many_processes_as_gpus_take_one_each(monkeypatch: pytest.MonkeyPatch):
    set_ranks(monkeypatch, 1, 2)
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for name in ("init_process_group", "barrier", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, lambda *_, **__: None)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with joined_world() as world:
        assert world.device == torch.device("cuda", 1)
    assert taken == [world.device]


def test_a_world_size_without_torchrun_is_one_line(
    pretrain: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Some containers and batch systems set it for their own processes."""
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert pretrain.main(["--config", "smoke", "--data", "nowhere", "--out", "nowhere"]) == 2
    expected = (
        r"error: WORLD_SIZE is set, but not RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT: .* with torchrun"
    )
    assert re.search(expected, capsys.readouterr().err)
