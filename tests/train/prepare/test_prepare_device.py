"""Where the networks of data preparation run."""

from pathlib import Path

import pytest

from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError
from emotion_train.commands.prepare_data import main
from emotion_train.prepare import settings
from emotion_train.prepare.models import move_to_gpu
from emotion_train.prepare.settings import ModelNames, check_models


def test_a_gpu_that_is_not_there_is_refused_before_any_work(tmp_path: Path):
    if "CUDAExecutionProvider" in settings.available_providers():
        pytest.skip("this machine has CUDA")
    videos = tmp_path / "videos"
    videos.mkdir()
    argv = ["--videos", str(videos), "--captions", str(videos), "--out", str(tmp_path / "out")]
    with pytest.raises(EmotionError, match="this ONNX Runtime has no CUDA; install PyTorch for CUDA and"):
        main([*argv, "--device", "cuda"])
    assert not (tmp_path / "out").exists()


def test_a_detector_that_cannot_start_on_the_gpu(monkeypatch: pytest.MonkeyPatch):
    """ONNX Runtime would go on with the CPU, at a tenth of the speed."""
    if "CUDAExecutionProvider" in settings.available_providers():
        pytest.skip("this machine has CUDA")
    with pytest.raises(EmotionError, match=r"^--device cuda: .* built without CUDA; .*use --device cpu"):
        move_to_gpu(load_detector("face", threads=1))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(EmotionError, match=r"^--device cuda: this ONNX Runtime has no CUDA"):
        check_models(ModelNames("face", None, "a model", None, "cuda"))
