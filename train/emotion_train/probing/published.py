"""The results that the paper reports, for comparison with ours. Source: paper Table 4 (a-e)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """The row of one method.

    Attributes:
        method: Name of the method.
        evaluation: "supervised" or "linear" (a linear probe on frozen features, as here).
        metrics: Values by set and metric of our reports, such as ("val_categories", "map"), in our units.
        multimodal: Whether it used sound or text as well, which the paper marks with a star.
    """

    method: str
    evaluation: str
    metrics: Mapping[tuple[str, str], float]
    multimodal: bool = False


PAPER = "EmotionCLIP (the paper)"
SOURCE = "Zhang et al., CVPR 2023, Table 4"


def published(dataset: str) -> tuple[PublishedRow, ...]:
    """Return the rows of a data set's part of Table 4; empty for the user's own data.

    The table does not say which splits of BoLD and Emotic it uses. We compare with BoLD's val, the only
    labelled one, and Emotic's test.
    """
    if dataset == "bold":
        columns = [("val_categories", "map"), ("val_categories", "auc"), ("val_vad", "r2")]
        return _rows(columns, (100, 100, 1), _BOLD)
    if dataset == "moviegraphs":
        return _rows([("val", "top1"), ("test", "top1")], (100, 100), _MOVIEGRAPHS)
    if dataset == "meld":
        return _rows([("test", "accuracy"), ("test", "weighted_f1")], (100, 100), _MELD)
    if dataset == "emotic":
        return _rows([("test_categories", "map"), ("test_categories", "auc")], (100, 100), _EMOTIC)
    if dataset == "liris":
        return _rows([("test", "mse_valence"), ("test", "mse_arousal")], (1, 1), _LIRIS)
    return ()


def remarks(dataset: str) -> tuple[str, ...]:
    """Return notes that a comparison with the paper needs."""
    if dataset == "liris":
        return ("The paper's own row of Table 4e is missing in our copy of the paper, so it is not shown.",)
    return ()


_Row = tuple[str, str, Sequence[float | None]]

# A star in front of a name is the table's own. In parts (c) and (e) of our copy the line "Linear-Eval" stands
# between methods that are supervised according to their papers' titles; we treat them as supervised.
_BOLD: tuple[_Row, ...] = (
    ("ST-GCN", "supervised", (12.63, 55.96, 0.044)),
    ("TSN", "supervised", (17.02, 62.70, 0.095)),
    ("Filntisis et al.", "supervised", (16.56, 62.66, 0.092)),
    ("Pikoulis et al.", "supervised", (19.29, 66.82, 0.149)),
    ("VideoCLIP", "linear", (11.19, 51.23, -5.11)),
    ("X-CLIP", "linear", (13.26, 56.86, -0.03)),
    (PAPER, "linear", (22.51, 69.30, 0.133)),
)
_MOVIEGRAPHS: tuple[_Row, ...] = (
    ("EmotionNet", "supervised", (35.60, 27.90)),
    ("*Affect2MM", "supervised", (39.88, 30.58)),
    ("VideoCLIP", "linear", (29.91, 23.44)),
    ("X-CLIP", "linear", (29.06, 23.58)),
    (PAPER, "linear", (41.60, 32.35)),
)
_EMOTIC: tuple[_Row, ...] = (
    ("CAER-Net", "supervised", (20.84, None)),
    ("Affective Graph", "supervised", (28.42, None)),
    ("Fusion Model", "supervised", (29.45, None)),
    ("EmotiCon (GCN)", "supervised", (32.03, None)),
    ("EmotiCon (Depth)", "supervised", (35.48, None)),
    ("VideoCLIP", "linear", (19.92, 56.31)),
    ("X-CLIP", "linear", (22.80, 61.31)),
    (PAPER, "linear", (32.91, 71.41)),
)
_MELD: tuple[_Row, ...] = (
    ("M2FNet (Visual)", "supervised", (45.63, 32.44)),
    ("*M2FNet", "supervised", (67.85, 66.71)),
    ("VideoCLIP", "linear", (45.19, 32.06)),
    ("X-CLIP", "linear", (38.31, 32.46)),
    (PAPER, "linear", (48.28, 34.59)),
)
_LIRIS: tuple[_Row, ...] = (
    ("Quan et al.", "supervised", (0.115, 0.171)),
    ("Ko et al.", "supervised", (0.102, 0.149)),
    ("*CERTH-ITI", "supervised", (0.117, 0.138)),
    ("*THUHCSI", "supervised", (0.092, 0.140)),
    ("*Yi et al.", "supervised", (0.090, 0.136)),
    ("*GLA", "supervised", (0.084, 0.133)),
    ("*Zhao et al.", "supervised", (0.071, 0.137)),
    ("*Affect2MM", "supervised", (0.068, 0.128)),
)


def _rows(
    columns: Sequence[tuple[str, str]], scales: Sequence[float], rows: Sequence[_Row]
) -> tuple[PublishedRow, ...]:
    """Convert per cent to fractions; a metric that the table does not give is left out."""
    return tuple(
        PublishedRow(
            method.removeprefix("*"),
            evaluation,
            {
                column: metric / scale
                for column, scale, metric in zip(columns, scales, metrics, strict=True)
                if metric is not None
            },
            multimodal=method.startswith("*"),
        )
        for method, evaluation, metrics in rows
    )
