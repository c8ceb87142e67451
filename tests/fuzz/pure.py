"""Targets without a connection: pure functions, and the link between processes. Each docstring is
the invariant.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count, pairwise

from hypothesis import strategies as st

from httpuv_kernel import decode_uri, decode_uri_component, encode_uri, encode_uri_component
from httpuv_kernel.link import Link, LinkClosed, socket_pair
from httpuv_kernel.network.conditional import (
    Validators,
    http_date,
    is_not_modified,
    precondition_fails,
    requested_ranges,
)

__all__ = ["BATCHES", "CONDITIONS", "RANGES", "URIS", "link_batches", "ranges", "uris"]

# -- ranges and conditions -------------------------------------------------------------------------

_NUMBERS = st.one_of(st.integers(-2, 12).map(str), st.sampled_from(["", "9" * 18, "9" * 19, "1e3"]))
_SPECS = st.one_of(
    st.tuples(_NUMBERS, _NUMBERS).map("-".join), st.text("0123456789-, ", max_size=8)
)
RANGES = st.tuples(
    st.sampled_from(["bytes=", "bytes = ", "BYTES=", "bytes", "lines="]),
    st.lists(_SPECS, max_size=10).map(",".join),
).map("".join)
_VALIDATORS = Validators(b'"tag"', 1_000_000_000)
_TAGS = ['"tag"', 'W/"tag"', '"other"', "*", '"ta', 'tag"', '"a", "tag"', '"tag","', "", " , "]
_DATES = [
    *(http_date(1_000_000_000 + shift).decode() for shift in (-1, 0, 1)),
    *("Sunday, 09-Sep-01 01:46:40 GMT", "Sun Sep  9 01:46:40 2001", "0", "Mon, 99 Xyz 99999 9:9:9"),
    *("Sun, 09 Sep 9999999999 01:46:40 GMT", "\xff" * 30, "x" * 90),
]
CONDITIONS = st.dictionaries(
    st.sampled_from(
        [b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"]
    ),
    st.sampled_from(_TAGS + _DATES),
    max_size=3,
)


def ranges(case: tuple[str, int, dict[bytes, str]]) -> None:
    """Any Range and conditions give: all, nothing (416), or parts inside the file that do not
    overlap or touch, at most eight; through a connection, a 206 has exactly those bytes.
    """
    text, size, conditions = case
    fields = [(b"range", text.encode("latin-1"))]
    fields += [(name, value.encode("latin-1")) for name, value in conditions.items()]
    spans = requested_ranges(fields, size, _VALIDATORS)
    assert isinstance(precondition_fails(fields, _VALIDATORS), bool)
    assert isinstance(is_not_modified(fields, _VALIDATORS), bool)
    if spans is None:
        return
    assert len(spans) <= 8
    assert all(0 <= first < end <= size for first, end in spans)
    ordered = sorted(spans)
    assert all(a[1] <= b[0] for a, b in pairwise(ordered))


# -- URIs ------------------------------------------------------------------------------------------

URIS = st.lists(
    st.one_of(
        st.text(max_size=3),
        st.sampled_from(["%", "%2", "%41", "%2F", "%c3%a9", "%ff", "%é", *";/?:@&=+$,#"]),
    ),
    max_size=8,
).map("".join)


def uris(text: str) -> None:
    """Decoding gives str or ValueError; what was encoded decodes to itself; a component never keeps
    a reserved character.
    """
    for decode in (decode_uri, decode_uri_component):
        with suppress(ValueError):
            assert isinstance(decode(text), str)
    try:
        whole, part = encode_uri(text), encode_uri_component(text)
    except ValueError:
        assert any(0xD800 <= ord(character) < 0xE000 for character in text)
        return
    assert whole.isascii()
    assert decode_uri_component(part) == text
    assert decode_uri_component(whole) == text
    assert not set(part) & set(";/?:@&=+$,#")


# -- the link between processes --------------------------------------------------------------------

BATCHES = st.tuples(
    st.lists(st.tuples(st.integers(0, 300_000), st.integers(1, 3)), max_size=5),
    st.lists(st.integers(0, 12), max_size=6),
)


def link_batches(case: tuple[list[tuple[int, int]], list[int]]) -> None:
    """Batches of any size arrive whole, once, in order, also when packets come twice and when the
    system takes a part only; then the end of one side is LinkClosed for the other.
    """
    batches, repeats = case
    (ours, between), (onwards, theirs) = socket_pair(), socket_pair()
    between.setblocking(False)
    onwards.setblocking(False)
    sender, receiver = Link(ours), Link(theirs)
    sent = [[(number, b"x" * size)] * times for number, (size, times) in enumerate(batches)]
    found: list[object] = []
    packets = count()

    def relay() -> None:
        """Carry packets over, some of them twice."""
        with suppress(BlockingIOError):
            while packet := between.recv(_PACKET):
                for _ in range(2 if next(packets) in repeats else 1):
                    onwards.send(packet)
                    while (batch := receiver.receive()) is not None:
                        found.append(batch)

    for batch in sent:
        sender.put(batch)
        while not sender.flush():
            relay()
    relay()
    assert found == sent
    for end in (sender, between, onwards):
        end.close()
    try:
        receiver.receive()
    except LinkClosed:
        pass
    else:
        raise AssertionError("the end was not seen")
    finally:
        receiver.close()


_PACKET = 1024 * 1024
