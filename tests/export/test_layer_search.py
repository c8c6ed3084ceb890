from collections.abc import Callable, Collection

import pytest

from emotion_export.layer_search import keep_worst_in_fp32

ERRORS = {"a": 0.1, "b": 3.0, "c": 0.2, "d": 1.0, "e": float("nan"), "f": 0.0}
LAYERS = list(ERRORS)


class Graph:
    """Errors of the reduced layers add up; a layer that is not a number spoils the sum."""

    def __init__(self) -> None:
        self.asked: list[frozenset[str]] = []

    def error(self, spared: Collection[str]) -> float:
        self.asked.append(frozenset(spared))
        return sum(error for layer, error in ERRORS.items() if layer not in spared)

    def gate(self, tolerated: float) -> Callable[[Collection[str]], bool]:
        return lambda spared: self.error(spared) <= tolerated


@pytest.mark.parametrize(
    ("tolerated", "spared"),
    [(5.0, "e"), (1.5, "be"), (0.5, "bde"), (0.25, "bcde"), (0.05, "abcde")],
)
def test_the_fewest_of_the_worst_are_spared(tolerated: float, spared: str):
    graph = Graph()
    assert keep_worst_in_fp32(LAYERS, graph.error, graph.gate(tolerated)) == frozenset(spared)


def test_nothing_is_searched_where_nothing_is_wrong():
    graph = Graph()
    assert keep_worst_in_fp32(LAYERS, graph.error, lambda _: True) == frozenset()
    assert not graph.asked


def test_sparing_every_layer_is_no_reduction():
    graph = Graph()
    assert keep_worst_in_fp32(LAYERS, graph.error, graph.gate(-1.0)) is None
    assert frozenset(LAYERS) not in graph.asked
    assert keep_worst_in_fp32([], graph.error, graph.gate(-1.0)) is None


def test_each_layer_is_reduced_alone_and_the_search_is_told():
    graph, told = Graph(), []
    keep_worst_in_fp32(LAYERS, graph.error, graph.gate(0.5), told.append)
    assert all(frozenset(LAYERS) - {layer} in graph.asked for layer in LAYERS)
    assert any("b, error alone 3.0e+00" in line for line in told)
