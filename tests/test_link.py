"""The link between two processes: whole batches, in order, none twice; and the bell beside it."""

from __future__ import annotations

import os
import random
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from httpuv_kernel.bridge import WakeFd
from httpuv_kernel.link import Bell, Link, LinkClosed, socket_pair

Pair = tuple[Link, Link]

PIECE = 96 * 1024


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = map(Link, socket_pair())
    yield one, other
    one.close()
    other.close()


def transfer(sender: Link, receiver: Link) -> list[list[Any]]:
    """Send all that is queued; the batches that arrive."""
    arrived: list[list[Any]] = []
    done = False
    while not done:
        done = sender.flush()
        while (batch := receiver.receive()) is not None:
            arrived.append(batch)
    return arrived


SIZES = [0, 1, PIECE - 20, *range(PIECE - 12, PIECE + 1), PIECE + 1, 2 * PIECE, 5_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_a_batch_of_any_size(pair: Pair, size: int) -> None:
    batch = [("respond", 1, bytes(size))]
    pair[0].put(batch)
    assert transfer(*pair) == [batch]


@pytest.mark.parametrize(
    "value",
    [
        None, True, -1, 1 << 70, 1.5, float("inf"), "", "ä\U0001f600", "\udcff", b"\0\xff",
        (), (1, (2, (3,))), [], [[b"x"]], {}, {"a": {1: None}},
    ],
    ids=repr,
)  # fmt: skip
def test_every_plain_value(pair: Pair, value: object) -> None:
    for batch in ([value], [value] * 10):  # a long one is written in another form
        pair[0].put(batch)
        assert transfer(*pair) == [batch]


@pytest.mark.parametrize("count", range(1, 9))
def test_messages_that_share_values(pair: Pair, count: int) -> None:
    """They are sent once where that is shorter, and are there in each."""
    shared = [(b"host", b"a"), ("text", 2**60, 1.5)]
    batch = [(number, shared, [shared]) for number in range(count)]
    pair[0].put(batch)
    assert transfer(*pair) == [batch]


def test_both_directions_are_apart(pair: Pair) -> None:
    for i in range(5):
        pair[0].put([("there", i)])
        pair[1].put([("back", i)])
    assert transfer(pair[0], pair[1]) == [[("there", i)] for i in range(5)]
    assert transfer(pair[1], pair[0]) == [[("back", i)] for i in range(5)]


def test_an_empty_batch(pair: Pair) -> None:
    pair[0].put([])
    assert transfer(*pair) == [[]]


def test_nothing_to_receive(pair: Pair) -> None:
    assert pair[1].receive() is None


def test_a_batch_is_as_it_was_when_it_was_put(pair: Pair) -> None:
    batch = [[1]]
    pair[0].put(batch)
    batch[0].append(2)
    batch.append([3])
    assert transfer(*pair) == [[[1]]]


@pytest.mark.parametrize("value", [object(), {1: {2: print}}, range(3)], ids=repr)
def test_a_value_that_is_not_plain_is_refused_and_nothing_is_queued(
    pair: Pair, value: object
) -> None:
    pair[0].put(["before"])
    with pytest.raises(ValueError, match="unmarshallable"):
        pair[0].put(["half", value])
    pair[0].put(["after"])
    assert transfer(*pair) == [["before"], ["after"]]


# -- a link that is full ---------------------------------------------------------------------------


def test_a_full_link_goes_on_later(pair: Pair) -> None:
    batches = [[i, bytes(50_000)] for i in range(200)]
    for batch in batches:
        pair[0].put(batch)
    assert not pair[0].flush()
    assert not pair[0].flush()
    assert transfer(*pair) == batches
    assert pair[0].flush()


def test_half_a_batch_is_not_received(pair: Pair) -> None:
    pair[0].put([bytes(50_000_000)])
    assert not pair[0].flush()
    assert pair[1].receive() is None
    assert len(transfer(*pair)[0][0]) == 50_000_000


# -- interrupts ------------------------------------------------------------------------------------


class Interrupted:
    """A socket whose sending is cut, before or after the system has taken the packet."""

    def __init__(self, sock: socket.socket, chance: random.Random) -> None:
        self._sock = sock
        self._chance = chance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def _cut(self, send: Callable[[Any], int], data: Any) -> int:
        when = self._chance.random()
        if when < 0.3:
            raise KeyboardInterrupt
        sent = send(data)
        if when < 0.6:
            raise KeyboardInterrupt
        return sent

    def send(self, data: bytes) -> int:
        return self._cut(self._sock.send, data)

    def sendmsg(self, buffers: Any) -> int:
        return self._cut(self._sock.sendmsg, buffers)


@pytest.mark.parametrize("seed", range(5))
def test_interrupts_lose_tear_and_repeat_nothing(pair: Pair, seed: int) -> None:
    sender, receiver = pair
    chance = random.Random(seed)
    sender._sock = Interrupted(sender._sock, chance)  # type: ignore[assignment]
    batches = [[i, bytes(chance.choice([0, 10, PIECE, 3 * PIECE]))] for i in range(60)]
    arrived: list[list[Any]] = []
    for batch in batches:
        sender.put(batch)
        done = False
        while not done:
            try:
                done = sender.flush()
            except KeyboardInterrupt:
                if chance.random() < 0.5:  # or others come first
                    break
            while (found := receiver.receive()) is not None:
                arrived.append(found)
    while len(arrived) < len(batches):
        try:
            arrived += transfer(sender, receiver)
        except KeyboardInterrupt:
            continue
    assert arrived == batches
    assert receiver.receive() is None


# -- the end ---------------------------------------------------------------------------------------


def test_what_was_sent_before_the_end_is_received(pair: Pair) -> None:
    pair[0].put(["last words"])
    assert pair[0].flush()
    pair[0].close()
    assert pair[1].receive() == ["last words"]
    with pytest.raises(LinkClosed):
        pair[1].receive()


def test_sending_to_one_that_is_gone(pair: Pair) -> None:
    pair[1].close()
    pair[0].put(["nobody"])
    with pytest.raises(LinkClosed):
        pair[0].flush()


def test_an_end_that_is_closed(pair: Pair) -> None:
    pair[0].close()
    assert pair[0].fileno() == -1
    pair[0].put(["nobody"])
    for use in (pair[0].flush, pair[0].receive):
        with pytest.raises(LinkClosed):
            use()


def test_no_child_inherits_an_end() -> None:
    one, other = socket_pair()
    with one, other:
        assert not one.get_inheritable()
        assert not other.get_inheritable()


# -- the bell --------------------------------------------------------------------------------------


@pytest.fixture
def bells() -> Iterator[tuple[WakeFd, Bell, Bell]]:
    """A wake-up, its reader's bell, and the writer's as in another process."""

    wake = WakeFd()
    reader = Bell(wake)
    writer = Bell(wake, os.dup(reader.share()))
    yield wake, reader, writer
    reader.close()
    wake.close()


def is_set(wake: WakeFd) -> bool:

    return bool(select.select([wake.fileno()], [], [], 0)[0])


def test_the_bell_wakes_once_each_time_it_is_to(bells: tuple[WakeFd, Bell, Bell]) -> None:
    wake, reader, writer = bells
    writer.ring()
    assert not is_set(wake)  # nobody asked for it
    reader.answer(True)
    writer.ring()
    assert is_set(wake)
    wake.clear()
    writer.ring()
    assert not is_set(wake)  # the reader is awake, and will look
    reader.answer(True)
    writer.ring()
    assert is_set(wake)


def test_a_bell_that_is_muted(bells: tuple[WakeFd, Bell, Bell]) -> None:
    wake, reader, writer = bells
    reader.answer(True)
    reader.answer(False)
    writer.ring()
    assert not is_set(wake)


@pytest.mark.parametrize(("level", "seen"), [(0, 0), (30, 30), (255, 255), (1000, 255)])
def test_the_writer_sees_the_log_level(
    bells: tuple[WakeFd, Bell, Bell], level: int, seen: int
) -> None:
    _, reader, writer = bells
    reader.log_level = level
    assert writer.log_level == seen
