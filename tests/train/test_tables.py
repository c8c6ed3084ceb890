"""Markdown tables and percentages."""

import pytest

from emotion_train.tables import markdown_table, percent, percent_interval


def test_columns_are_aligned_and_cells_cannot_end_early():
    assert markdown_table(("label", "n"), [("calm", "12"), ("a|b", "3")]).splitlines() == [
        "| label | n  |",
        "|-------|----|",
        "| calm  | 12 |",
        "| a\\|b  | 3  |",
    ]


def test_a_row_with_another_number_of_cells_is_refused():
    with pytest.raises(ValueError, match="zip"):
        markdown_table(("label", "n"), [("calm",)])


def test_fractions_are_written_in_per_cent():
    assert percent(0.4567) == "45.7 %"
    assert percent(0.4567, 2) == "45.67 %"
    assert percent_interval(0.412, 0.498) == "41.2 to 49.8"
