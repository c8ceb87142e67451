"""What was measured, as rows; which bars it had to reach; and the tables of both."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from .servers import IN_PROCESS, OURS

_FIGURE = re.compile(r"[0-9.,]+")


@dataclass(frozen=True)
class Bar:
    """What our figure has to reach: so many times a peer's, or an absolute one without a peer."""

    limit: float
    peer: str | None = None
    at_most: bool = False
    of: str = OURS
    """Which of ours."""

    def describe(self, unit: str) -> str:
        sign = "<" if self.at_most else "≥"
        if self.peer is None:
            return f"{sign} {figure(self.limit)} {unit}"
        return f"{sign} {self.limit:.1f} x {self.peer}"

    def holds(self, value: float) -> bool:
        return value < self.limit if self.at_most else value >= self.limit


@dataclass(frozen=True)
class Row:
    """One measure of several servers: for each, a figure of every round."""

    measure: str
    unit: str
    samples: dict[str, list[float]]
    bars: tuple[Bar, ...] = ()

    def value(self, name: str) -> float:
        return median(self.samples[name])

    def ratio(self, ours: str, peer: str) -> float:
        """The median over the rounds of ours to the peer's.

        Both of a round were measured seconds apart, so a slow spell of the machine cancels out.
        """
        pairs = zip(self.samples[ours], self.samples[peer], strict=True)
        return median(ours / theirs for ours, theirs in pairs)


@dataclass(frozen=True)
class Verdict:
    """A bar and how we stand to it."""

    measure: str
    bar: str
    reached: str
    passed: bool | None
    """None: the peer is not on this machine."""


def verdicts(rows: Iterable[Row]) -> list[Verdict]:
    return [_verdict(row, bar) for row in rows for bar in row.bars]


def _verdict(row: Row, bar: Bar) -> Verdict:
    text = bar.describe(row.unit)
    measure = row.measure if bar.of == OURS else f"{row.measure}, in a process"
    if bar.peer is None:
        value = row.value(bar.of)
        reached = f"{figure(value)} {row.unit}"
    elif bar.peer in row.samples:
        value = row.ratio(bar.of, bar.peer)
        reached = f"{value:.2f} x"
    else:
        return Verdict(measure, text, "", None)
    return Verdict(measure, text, reached, bar.holds(value))


def figures_table(rows: list[Row]) -> str:
    """Every figure, a column for each server."""
    names = list(dict.fromkeys(name for row in rows for name in row.samples))
    names.sort(key=lambda name: (name != OURS, name != IN_PROCESS))
    lines = [
        [row.measure, row.unit]
        + [figure(row.value(name)) if name in row.samples else "" for name in names]
        for row in rows
    ]
    return table(["measure", "unit", *names], lines)


def bars_table(found: list[Verdict]) -> str:
    words = {True: "pass", False: "FAIL", None: "not measured"}
    return table(
        ["bar of", "has to be", "is", ""],
        [[v.measure, v.bar, v.reached, words[v.passed]] for v in found],
    )


def table(head: list[str], lines: list[list[str]]) -> str:
    """Markdown that also reads well as plain text; figures to the right."""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    rule = ["-" * width for width in widths]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(map(_aligned, cells, widths)) + " |"

    return "\n".join([line(head), line(rule), *map(line, lines)])


def _aligned(cell: str, width: int) -> str:
    return cell.rjust(width) if _FIGURE.fullmatch(cell) else cell.ljust(width)


def figure(value: float) -> str:
    """Three digits that matter, and thousands set apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
