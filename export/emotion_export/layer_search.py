"""Find the layers that lose most in a reduced precision, and keep as few of them as possible in float32."""

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

_log = logging.getLogger(__name__)

Item = TypeVar("Item", bound=Hashable)
Error = Callable[[frozenset[str]], float]
Passes = Callable[[frozenset[str]], bool]


def keep_worst_in_fp32(
    layers: Sequence[str],
    error: Error,
    passes: Passes,
) -> frozenset[str] | None:
    """Return the fewest layers, as far as this search finds, that must stay in float32.

    Each layer is reduced alone to measure its error. Then bisection finds how many of the worst layers must
    stay in float32 to pass.

    Args:
        layers: Names of the layers.
        error: Error of the graph when the given layers stay in float32; any measure that is smaller for a
            better graph. NaN counts as the worst.
        passes: Whether the graph passes the parity check when the given layers stay in float32.

    Returns:
        The layers to keep in float32; None if the graph fails even with all but one of them in float32.
    """
    if passes(frozenset()):
        return frozenset()
    _log.info("not within tolerance with all %d layers reduced; reducing each layer alone", len(layers))
    alone = {}
    for i, layer in enumerate(layers, start=1):
        alone[layer] = error(frozenset(layers) - {layer})
        _log.info("%d/%d: %s, error alone %.1e", i, len(layers), layer, alone[layer])
    worst_first = sorted(layers, key=lambda layer: (alone[layer] == alone[layer], -alone[layer]))
    return fewest_kept(worst_first, passes)


def fewest_kept(
    worst_first: Sequence[Item], passes: Callable[[frozenset[Item]], bool], *, attempts: int | None = None
) -> frozenset[Item] | None:
    """Return the fewest of the worst layers that must stay in float32; None if all but one are not enough.

    Bisection, because keeping one more layer in float32 does not make a graph worse.

    Args:
        worst_first: The layers; the one that loses most first.
        passes: Whether the graph passes the parity check when the given layers stay in float32.
        attempts: Maximum number of checks, where each takes minutes; None: as many as bisection needs.
    """
    fewest, enough = 0, len(worst_first)
    while enough - fewest > 1 and attempts != 0:
        attempts = None if attempts is None else attempts - 1
        count = (fewest + enough) // 2
        good = passes(frozenset(worst_first[:count]))
        _log.info(
            "with the %d most sensitive layers in fp32: %s tolerance",
            count,
            "within" if good else "not within",
        )
        fewest, enough = (fewest, count) if good else (count, enough)
    return frozenset(worst_first[:enough]) if enough < len(worst_first) else None
