"""Which layers lose most in fewer bits, and how few of them must be spared for a graph to stay the model."""

from collections.abc import Callable, Sequence

Error = Callable[[frozenset[str]], float]
Passes = Callable[[frozenset[str]], bool]


def spare_worst(
    layers: Sequence[str],
    error: Error,
    passes: Passes,
    report: Callable[[str], None] = lambda _: None,
) -> frozenset[str] | None:
    """Layers to leave in float32, the fewest that this search finds; None if sparing all but one is too few.

    Each layer is reduced alone, and they are spared from the worst on, until the gate passes.

    layers: names. error: of the graph when these layers are spared, any figure that is less for a better
    graph; one whose error is no number is the worst. passes: the gate, of the graph when these are spared.
    """
    if passes(frozenset()):
        return frozenset()
    report(f"beyond tolerance with all {len(layers)} layers reduced; reducing each alone")
    alone = {layer: error(frozenset(layers) - {layer}) for layer in layers}
    worst_first = sorted(layers, key=lambda layer: (alone[layer] == alone[layer], -alone[layer]))
    for count in range(1, len(layers)):
        spared = frozenset(worst_first[:count])
        report(f"sparing {worst_first[count - 1]} (error alone {alone[worst_first[count - 1]]:.1e})")
        if passes(spared):
            return spared
    return None
