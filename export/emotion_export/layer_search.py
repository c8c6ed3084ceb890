"""Which layers lose most in fewer bits, and how few of them must be spared for a graph to stay the model."""

from collections.abc import Callable, Sequence

Error = Callable[[frozenset[str]], float]
Passes = Callable[[frozenset[str]], bool]


def keep_worst_in_fp32(
    layers: Sequence[str],
    error: Error,
    passes: Passes,
    report: Callable[[str], None] = lambda _: None,
) -> frozenset[str] | None:
    """Layers to leave in float32, the fewest that this search finds; None if sparing all but one is too few.

    Each layer is reduced alone, and as many of the worst are spared as the gate asks for.

    layers: names. error: of the graph when these layers are spared, any figure that is less for a better
    graph; one whose error is no number is the worst. passes: the gate, of the graph when these are spared.
    """
    if passes(frozenset()):
        return frozenset()
    report(f"beyond tolerance with all {len(layers)} layers reduced; reducing each alone")
    alone = {}
    for number, layer in enumerate(layers, start=1):
        alone[layer] = error(frozenset(layers) - {layer})
        report(f"{number}/{len(layers)}: {layer}, error alone {alone[layer]:.1e}")
    worst_first = sorted(layers, key=lambda layer: (alone[layer] == alone[layer], -alone[layer]))
    # A gate takes long, and one more layer spared does not make a graph worse: bisection.
    fewest, enough = 0, len(layers)
    while enough - fewest > 1:
        count = (fewest + enough) // 2
        good = passes(frozenset(worst_first[:count]))
        report(f"sparing the {count} worst: {'within' if good else 'beyond'} tolerance")
        fewest, enough = (fewest, count) if good else (count, enough)
    return frozenset(worst_first[:enough]) if enough < len(layers) else None
