"""Conditional requests and ranges (RFC 9110, sections 13 and 14).

Pure. Network side.
"""

from __future__ import annotations

import calendar
import itertools
import re
from email.utils import formatdate, parsedate
from typing import NamedTuple

from ..messages import Fields

__all__ = ["Validators", "http_date", "is_not_modified", "precondition_fails", "requested_ranges"]

MAX_RANGES = 8

_ETAG = re.compile(rb'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_MAX_DATE = 64
_MAX_DIGITS = 18  # of a position: int() on more digits than this is not worth its time


class Validators(NamedTuple):
    """What tells two versions of a file apart."""

    etag: bytes
    """With its quotes, strong."""
    modified: int
    """Seconds since the epoch."""


def http_date(seconds: int) -> bytes:
    """A time since the epoch as an HTTP date."""
    return formatdate(seconds, usegmt=True).encode()


def _value(fields: Fields, wanted: bytes) -> bytes | None:
    """A field's value, repeated ones joined."""
    values = [value for name, value in fields if name == wanted]
    return b", ".join(values) if values else None


def _date(value: bytes) -> int | None:
    """Seconds since the epoch; any of the three forms of section 5.6.7, all of which are GMT."""
    if len(value) > _MAX_DATE:
        return None
    try:
        parsed = parsedate(value.decode("latin-1"))
        return None if parsed is None else calendar.timegm(parsed)
    except (ValueError, OverflowError):
        return None


def _lists_etag(value: bytes, etag: bytes, *, weak: bool) -> bool:
    """Whether a list of entity tags has this one; weakly, W/ makes no difference."""
    if value.strip() == b"*":
        return True
    return any(tag == etag and (weak or not weakness) for weakness, tag in _ETAG.findall(value))


def precondition_fails(fields: Fields, validators: Validators) -> bool:
    """If-Match, else If-Unmodified-Since, is false: the answer is 412 (steps 1 and 2)."""
    match = _value(fields, b"if-match")
    if match is not None:
        return not _lists_etag(match, validators.etag, weak=False)
    since = _value(fields, b"if-unmodified-since")
    date = None if since is None else _date(since)
    return date is not None and validators.modified > date


def is_not_modified(fields: Fields, validators: Validators) -> bool:
    """If-None-Match, else If-Modified-Since, is false: the answer is 304 (steps 3 and 4)."""
    match = _value(fields, b"if-none-match")
    if match is not None:
        return _lists_etag(match, validators.etag, weak=True)
    since = _value(fields, b"if-modified-since")
    date = None if since is None else _date(since)
    return date is not None and validators.modified <= date


def _if_range_holds(fields: Fields, validators: Validators) -> bool:
    """Step 5: a range is wanted only of the version that the client has a part of."""
    value = _value(fields, b"if-range")
    if value is None:
        return True
    if value.endswith(b'"'):
        return value == validators.etag
    return _date(value) == validators.modified


def requested_ranges(
    fields: Fields, size: int, validators: Validators
) -> list[tuple[int, int]] | None:
    """The ranges to send as (first, end) with end exclusive, in order of request; overlaps merged.

    None: no range is asked for, or none that is to be honoured: send it all. An empty list: none
    can be satisfied, 416. Linear in the length of the field.
    """
    value = _value(fields, b"range")
    if value is None:
        return None
    if not _if_range_holds(fields, validators):
        return None
    unit, _, specs = value.partition(b"=")
    if unit.strip().lower() != b"bytes" or specs.count(b",") >= MAX_RANGES:
        return None
    ranges = []
    for spec in specs.split(b","):
        if _is_empty_suffix(spec, size):
            return None
        span = _span(spec, size)
        if span is None:
            return None
        if span[0] < span[1]:
            ranges.append(span)
    return _merged(ranges)


def _span(spec: bytes, size: int) -> tuple[int, int] | None:
    """One range as (first, end), empty when it cannot be satisfied; None when it is no range."""
    first, dash, last = (part.strip(b" \t") for part in spec.partition(b"-"))
    if not dash or max(len(first), len(last)) > _MAX_DIGITS:
        return None
    if not all(part.isdigit() or not part for part in (first, last)) or not (first or last):
        return None
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None  # section 14.1.1
    return int(first), min(size, int(last) + 1) if last else size


def _is_empty_suffix(spec: bytes, size: int) -> bool:
    """The last bytes of an empty file: satisfied, but there is no Content-Range to say it with."""
    return size == 0 and spec.strip(b" \t").startswith(b"-") and spec.strip(b" \t-0") != b""


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges that overlap or touch as one; untouched when none do."""
    in_order = sorted(ranges)
    if all(first[1] < second[0] for first, second in itertools.pairwise(in_order)):
        return ranges
    merged: list[tuple[int, int]] = []
    for first, end in in_order:
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return merged
