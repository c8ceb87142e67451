"""A table: HTML in a notebook, aligned columns elsewhere.

Main side.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from html import escape

__all__ = ["Table"]

_NUMBER = re.compile(r"-?[\d.]+")
_WIDEST = 60


class Table:
    """Rows of text, which may come from strangers."""

    def __init__(self, heads: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
        """`empty`: what is said when there are no rows."""
        self.heads = list(heads)
        self.rows = [[_printable(cell) for cell in row] for row in rows]
        self._empty = empty
        columns = zip(*self.rows, strict=True)
        self._numeric = [all(map(_NUMBER.fullmatch, column)) for column in columns]

    def _repr_html_(self) -> str:
        if not self.rows:
            return f"<i>{escape(self._empty)}</i>"
        head = self._html_row("th", self.heads)
        body = "".join(self._html_row("td", row) for row in self.rows)
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"

    def _html_row(self, tag: str, row: list[str]) -> str:
        cells = (
            f'<{tag} style="text-align:{"right" if numeric else "left"}">{escape(cell)}</{tag}>'
            for cell, numeric in zip(row, self._numeric, strict=True)
        )
        return f"<tr>{''.join(cells)}</tr>"

    def __repr__(self) -> str:
        if not self.rows:
            return self._empty
        lines = [self.heads]
        for row in self.rows:
            wrapped = [textwrap.wrap(cell, _WIDEST) or [""] for cell in row]
            height = max(map(len, wrapped))
            padded = [cell + [""] * (height - len(cell)) for cell in wrapped]
            lines += [list(line) for line in zip(*padded, strict=True)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(self._text_line(line, widths) for line in lines)

    def _text_line(self, line: list[str], widths: list[int]) -> str:
        cells = (
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(line, widths, self._numeric, strict=True)
        )
        return "  ".join(cells).rstrip()


def _printable(text: str) -> str:
    """The text without characters that could steer a terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
