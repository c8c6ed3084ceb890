"""The fraction of a build that has finished, from the phases that TensorRT reports."""

from tqdm import tqdm

from emotion_export.progress import Progress


def test_the_progress_of_phases_within_phases():
    bar = tqdm(total=100, disable=True)
    progress = Progress(bar)
    progress.phase_start("build", None, 4)
    assert progress.fraction() == 0
    progress.step_complete("build", 0)
    assert progress.fraction() == 1 / 4
    progress.phase_start("inner", "build", 2)
    progress.step_complete("inner", 0)
    assert progress.fraction() == (1 + 1 / 2) / 4
    progress.phase_start("innermost", "inner", 10)
    progress.step_complete("innermost", 4)
    assert progress.fraction() == (1 + (1 + 5 / 10) / 2) / 4
    progress.phase_start("nothing to do", "build", 0)  # never a division by zero
    assert 0 < progress.fraction() < 1
    progress.step_complete("never begun", 1)
    assert 0 < progress.fraction() < 1
