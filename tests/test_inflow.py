"""What waits to be parsed: how much of it, and how often others have their turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from httpuv_kernel.network.inflow import Inflow
from httpuv_kernel.network.reading import Reading

KIB = 1024
SLICE, REST, KEPT = 16 * KIB, 64 * KIB, 64 * KIB


class Parts:
    """A reader, a transport and a loop that note what they are told."""

    def __init__(
        self, phase: Reading = Reading.IDLE, *, leaves: int = 0, body_left: int = 0
    ) -> None:
        self.phase = phase
        self.leaves = leaves
        self.body_left = body_left
        self.fed: list[int] = []
        self.reads = True
        self.turns: list[Callable[[], None]] = []
        self.gone_on = 0
        self.inflow = Inflow(cast(Any, self), cast(Any, self), cast(Any, self), self.go_on)

    def feed(self, data: bytes) -> bytes:
        self.fed.append(len(data))
        self.body_left = max(0, self.body_left - len(data))
        left, self.leaves = self.leaves, 0
        return data[len(data) - left :]

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.turns.append(callback)

    def go_on(self) -> None:
        self.gone_on += 1

    def turn(self) -> None:
        self.turns.pop()()


@pytest.mark.parametrize(
    ("phase", "size", "fed", "kept"),
    [
        (Reading.IDLE, 10, [10], 0),
        (Reading.IDLE, SLICE, [SLICE], 0),
        (Reading.IDLE, SLICE + 1, [SLICE], 1),
        (Reading.HEAD, 100 * KIB, [SLICE], 84 * KIB),
        (Reading.BODY, 40 * KIB, [SLICE, SLICE, 8 * KIB], 0),
        (Reading.DISCARD, 100 * KIB, [SLICE], 0),
    ],
)
def test_a_slice_is_parsed_and_the_rest_kept(
    phase: Reading, size: int, fed: list[int], kept: int
) -> None:
    parts = Parts(phase)
    parts.inflow.feed(bytes(size))
    assert (parts.fed, len(parts.inflow.kept)) == (fed, kept)
    assert parts.inflow.rests is bool(kept)
    assert parts.reads is not bool(kept)


def test_what_a_body_of_known_length_lacks_is_parsed_at_once() -> None:
    """And what follows it in slices: it may be thousands of requests."""
    parts = Parts(Reading.BODY, body_left=100 * KIB)
    parts.inflow.feed(bytes(140 * KIB))
    assert parts.fed == [100 * KIB, SLICE, SLICE, 8 * KIB]


def test_what_the_reader_leaves_is_kept_before_what_follows() -> None:
    parts = Parts(leaves=3)
    parts.inflow.feed(b"abcdef")
    assert parts.inflow.kept == b"def"


@pytest.mark.parametrize(("size", "rests"), [(REST - 1, False), (REST, True), (4 * REST, True)])
def test_after_much_of_a_body_others_have_a_turn(size: int, rests: bool) -> None:
    parts = Parts(Reading.BODY)
    parts.inflow.feed(bytes(size))
    assert (parts.inflow.rests, parts.reads, len(parts.turns)) == (rests, not rests, rests)


def test_after_its_rest_it_goes_on() -> None:
    parts = Parts()
    parts.inflow.feed(bytes(3 * SLICE))
    for kept in (SLICE, 0):
        assert (len(parts.turns), parts.reads) == (1, False)
        parts.turn()
        parts.inflow.feed_kept()
        assert len(parts.inflow.kept) == kept
    assert (parts.gone_on, parts.fed, parts.turns) == (2, [SLICE] * 3, [])


def test_it_rests_once_at_a_time() -> None:
    parts = Parts()
    parts.inflow.feed(bytes(2 * SLICE))
    parts.inflow.feed_kept()
    parts.inflow.feed(bytes(2 * SLICE))
    assert len(parts.turns) == 1


@pytest.mark.parametrize("phase", [Reading.IDLE, Reading.DISCARD])
def test_a_client_is_not_read_on_when_much_waits(phase: Reading) -> None:
    parts = Parts(phase)
    parts.inflow.keep(bytes(KEPT))
    assert parts.reads
    parts.inflow.keep(b"a")
    assert parts.reads is (phase is Reading.DISCARD)
    assert len(parts.inflow.kept) == (0 if phase is Reading.DISCARD else KEPT + 1)


@pytest.mark.parametrize(
    ("kept", "rests", "reads"), [(KEPT, False, True), (KEPT + 1, False, False), (0, True, False)]
)
def test_when_it_reads_on(kept: int, rests: bool, reads: bool) -> None:
    parts = Parts()
    parts.reads = False
    parts.inflow.kept = bytes(kept)
    parts.inflow.rests = rests
    parts.inflow.read_on()
    assert parts.reads is reads


def test_what_waits_can_be_taken() -> None:
    parts = Parts()
    parts.inflow.keep(b"abc")
    assert (parts.inflow.take(), parts.inflow.take()) == (b"abc", b"")
