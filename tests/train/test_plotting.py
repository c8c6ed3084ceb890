"""The palette and the helpers that all plots share."""

import io

import numpy as np
import pytest
from PIL import Image

from emotion_train.plotting import (
    BLUE,
    RED,
    new_figure,
    plot_intervals,
    plot_lines,
    style_axes,
    to_png,
    to_svg,
)


def rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


def test_a_png_shows_what_was_drawn_and_is_reproducible():
    def drawn() -> bytes:
        figure = new_figure(4, 3, "a title")
        axes = figure.add_subplot()
        axes.bar([0, 1], [2, 4], color=[BLUE, RED])
        style_axes(axes)
        return to_png(figure)

    content = drawn()
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    blue, red = ((abs(pixels - rgb(color)) < 4).all(axis=2).sum() for color in (BLUE, RED))
    assert red / blue == pytest.approx(2, rel=0.05)
    assert drawn() == content


def test_an_svg_is_one_element_and_reproducible():
    def drawn() -> str:
        figure = new_figure(4, 3)
        axes = figure.add_subplot()
        plot_lines(axes, {"one": {1: 2.0, 2: 3.0}, "two": {1: 1.0, 2: 0.5}})
        plot_intervals(axes, [1.0], [(0.5, 0.4, 0.7)], BLUE, "measured")
        style_axes(axes, "a title")
        return to_svg(figure)

    content = drawn()
    assert content.startswith("<svg")
    assert content.rstrip().endswith("</svg>")
    assert drawn() == content
