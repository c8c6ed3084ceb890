"""Markdown tables and the numbers in them, for all reports."""

from collections.abc import Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are aligned, so that it is also readable in a terminal.

    Args:
        header: Title of each column.
        rows: Cells of each row, as many as titles. A `|` in a cell is escaped.

    Raises:
        ValueError: A row has more or fewer cells than the header.
    """
    table = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    first, *others = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in table
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([first, rule, *others])


def percent(fraction: float, digits: int = 1) -> str:
    """Write a fraction as a percentage: 0.4567 becomes "45.7 %"."""
    return f"{100 * fraction:.{digits}f} %"


def percent_interval(low: float, high: float, digits: int = 1) -> str:
    """Write the two ends of an interval of fractions in per cent, without the unit: "41.2 to 49.8"."""
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f}"
