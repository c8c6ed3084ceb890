"""Remove what an earlier run of fit-probe left in its folder: nothing old is taken for new."""

from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_train.heads import AFFECT_PROBE, PROBE, read_probe_report
from emotion_train.probing.cards import OTHER_VALUES

_FITTED = [PROBE, AFFECT_PROBE, OTHER_VALUES]  # of reports that do not list their heads yet
_REPORT = ("report.json", "report.md")


def remove_earlier_run(folder: Path) -> None:
    """Remove the report of an earlier run and the heads and plots that it lists; other files are kept.

    The report goes first: a folder in which this stops halfway has no report of what is no longer there.

    Raises:
        EmotionError: A file cannot be removed, or report.json is corrupt.
    """
    report = read_probe_report(folder)
    if report is None:
        return
    heads = _FITTED if report.heads is None else report.heads
    names = [*_REPORT, *(f"{head}.{suffix}" for head in heads for suffix in ("json", "safetensors"))]
    try:
        for name in (*names, *report.plots):
            (folder / Path(name).name).unlink(missing_ok=True)
    except OSError as error:
        raise EmotionError(
            f"{folder} has files of an earlier run that cannot be removed ({error.strerror}): choose another "
            "--out"
        ) from error
