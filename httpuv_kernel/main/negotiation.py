"""Which of the forms that a response can have suits the client best (RFC 9110, section 12.5.1).

Main side. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["negotiate"]


def negotiate(accept: str | None, available: Sequence[str]) -> str | None:
    """The media type to send, of those `available`, the server's favourite first.

    The range that names a type most closely gives its weight, and the highest weight wins. Of equal
    ones a type that only "*/*" covers comes last, else the server's order decides. A weight of 0
    forbids. A range with parameters counts for the bare type unless another range names that.
    Without Accept, or with one in which nothing can be understood, the favourite is sent.

    Args:
        accept: the value of Accept, repeated fields joined by commas; None when there is none.
        available: media types in lower case, without parameters.

    Returns:
        One of `available`; None when the client accepts none of them.
    """
    ranges = _ranges(accept or "")
    if not ranges:
        return available[0] if available else None
    # max() takes the first of equal ones.
    best = max(available, key=lambda kind: _weight(ranges, kind), default=None)
    return best if best is not None and _weight(ranges, best)[0] > 0 else None


def _ranges(accept: str) -> dict[str, float]:
    """By media range the weight; a range with parameters has a ";" at its end."""
    ranges: dict[str, float] = {}
    for element in accept.lower().split(","):  # a comma inside quotes leaves pieces that are none
        kind, *parameters = (part.strip() for part in element.split(";"))
        kind = "*/*" if kind == "*" else kind  # as old Java clients write it
        if kind.count("/") != 1:
            continue
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                weight = _quality(value.strip())
                break  # what follows once were extensions of Accept
            if name:
                kind = kind.rstrip(";") + ";"
        if weight >= 0:
            ranges[kind] = max(weight, ranges.get(kind, 0.0))
    return ranges


def _quality(text: str) -> float:
    """A number from 0 to 1; -1 for anything else."""
    try:
        weight = float(text)
    except ValueError:
        return -1.0
    return weight if 0 <= weight <= 1 else -1.0


def _weight(ranges: dict[str, float], kind: str) -> tuple[float, bool]:
    """The weight of a type, and whether a range names it or its group."""
    for each in (kind, kind + ";", kind.partition("/")[0] + "/*"):
        if each in ranges:
            return ranges[each], True
    return ranges.get("*/*", 0.0), False
