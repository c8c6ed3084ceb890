from collections.abc import Callable, Collection

import pytest

from emotion_export.layer_search import fewest_kept, keep_worst_in_fp32

ERRORS = {"a": 0.1, "b": 3.0, "c": 0.2, "d": 1.0, "e": float("nan"), "f": 0.0}
LAYERS = list(ERRORS)


class Graph:
    """Errors of the reduced layers add up; a layer that is not a number spoils the sum."""

    def __init__(self) -> None:
        self.asked: list[frozenset[str]] = []

    def error(self, kept: Collection[str]) -> float:
        self.asked.append(frozenset(kept))
        return sum(error for layer, error in ERRORS.items() if layer not in kept)

    def check(self, tolerated: float) -> Callable[[Collection[str]], bool]:
        return lambda kept: self.error(kept) <= tolerated


@pytest.mark.parametrize(
    ("tolerated", "kept"),
    [(5.0, "e"), (1.5, "be"), (0.5, "bde"), (0.25, "bcde"), (0.05, "abcde")],
)
def test_as_few_of_the_worst_as_possible_are_kept(tolerated: float, kept: str):
    graph = Graph()
    assert keep_worst_in_fp32(LAYERS, graph.error, graph.check(tolerated)) == frozenset(kept)


def test_nothing_is_searched_where_nothing_is_wrong():
    graph = Graph()
    assert keep_worst_in_fp32(LAYERS, graph.error, lambda _: True) == frozenset()
    assert not graph.asked


def test_keeping_every_layer_is_not_a_reduction():
    graph = Graph()
    assert keep_worst_in_fp32(LAYERS, graph.error, graph.check(-1.0)) is None
    assert frozenset(LAYERS) not in graph.asked
    assert keep_worst_in_fp32([], graph.error, graph.check(-1.0)) is None


def test_each_layer_is_reduced_alone_and_the_search_is_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    graph = Graph()
    keep_worst_in_fp32(LAYERS, graph.error, graph.check(0.5))
    assert all(frozenset(LAYERS) - {layer} in graph.asked for layer in LAYERS)
    assert any("b, error alone 3.0e+00" in line for line in caplog.messages)


@pytest.mark.parametrize(("needed", "kept"), [(1, 4), (4, 4), (5, 8), (8, 8), (9, 12), (13, None)])
def test_a_search_with_few_attempts_keeps_more_than_necessary(needed: int, kept: int | None):
    tried: list[int] = []

    def passes(layers: frozenset[int]) -> bool:
        tried.append(len(layers))
        return len(layers) >= needed

    found = fewest_kept(range(16), passes, attempts=2)
    assert (None if found is None else len(found)) == kept
    assert len(tried) == 2
    if found is not None:
        assert found == frozenset(range(len(found)))
        assert passes(found)
