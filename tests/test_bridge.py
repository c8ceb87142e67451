"""The bridge: wake-ups that are never lost and seldom needless, plain values, questions."""

from __future__ import annotations

import asyncio
import errno
import select
import sys
import threading
from collections.abc import Callable, Iterator
from time import monotonic

import pytest
from helpers import Work, in_thread, wait_until

from httpuv_kernel.bridge import Bridge, Channel, Gathering, WakeFd
from httpuv_kernel.errors import NetworkError


@pytest.fixture(params=["linux", "other"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where there is no eventfd, a pair of sockets is used."""
    monkeypatch.setattr(sys, "platform", request.param)
    return str(request.param)


@pytest.fixture
def wake(platform: str) -> Iterator[WakeFd]:
    wake = WakeFd()
    yield wake
    wake.close()


@pytest.fixture
def channel(platform: str) -> Iterator[Channel]:
    channel = Channel()
    yield channel
    channel.wake.close()


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    bridge = Bridge(check_plain=True)
    yield bridge
    bridge.close()


def is_readable(wake: WakeFd, timeout: float = 0.0) -> bool:
    return bool(select.select([wake.fileno()], [], [], timeout)[0])


# -- the descriptor --------------------------------------------------------------------------------


def test_it_is_readable_from_set_to_clear(wake: WakeFd) -> None:
    states = [is_readable(wake)]
    for step in (wake.set, wake.set, wake.clear, wake.set):
        step()
        states.append(is_readable(wake))
    assert states == [False, True, True, False, True]


def test_clear_of_what_is_clear(wake: WakeFd) -> None:
    wake.clear()
    assert not is_readable(wake)


def test_set_never_blocks(wake: WakeFd) -> None:
    for _ in range(100_000):
        wake.set()
    wake.clear()
    assert not is_readable(wake)


def test_a_closed_one_is_set_in_vain(wake: WakeFd) -> None:
    wake.close()
    wake.close()
    wake.set()
    assert wake.fileno() == -1


# -- a channel -------------------------------------------------------------------------------------


def test_items_come_in_order(channel: Channel) -> None:
    for i in range(5):
        channel.put(i)
    assert len(channel) == 5
    assert list(channel.take()) == [0, 1, 2, 3, 4]
    assert len(channel) == 0


def test_what_is_put_while_taking_is_taken(channel: Channel) -> None:
    channel.put(0)
    taken = []
    for item in channel.take():
        taken.append(item)
        if item < 3:
            channel.put(item + 1)
    assert taken == [0, 1, 2, 3]


def counted(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows with each wake-up."""
    wakes: list[None] = []
    real = channel.wake.set
    monkeypatch.setattr(channel.wake, "set", lambda: (wakes.append(None), real()))
    return wakes


def test_a_batch_costs_one_wake_up(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    wakes = counted(channel, monkeypatch)
    for i in range(100):
        channel.put(i)
    assert len(wakes) == 1
    channel.wake.clear()
    list(channel.take())
    channel.put(0)
    assert len(wakes) == 2


def test_a_nudge_always_wakes(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    wakes = counted(channel, monkeypatch)
    channel.put(0)
    channel.nudge()
    assert len(wakes) == 2


def test_after_disarm_the_next_put_wakes(channel: Channel) -> None:
    channel.put(0)
    channel.wake.clear()
    channel.disarm()
    channel.put(1)
    assert is_readable(channel.wake)


def test_on_hold_a_put_does_not_wake(channel: Channel) -> None:
    channel.hold()
    channel.put(0)
    assert not is_readable(channel.wake)
    channel.nudge()
    assert is_readable(channel.wake)


def test_no_wake_up_is_lost(channel: Channel) -> None:
    """Four threads put; the reader sleeps whenever it has seen the queue empty."""
    threads, items = 4, 5000

    def put(number: int) -> None:
        for i in range(items):
            channel.put((number, i))

    works = [threading.Thread(target=put, args=(number,)) for number in range(threads)]
    for work in works:
        work.start()
    taken: list[tuple[int, int]] = []
    while len(taken) < threads * items:
        assert is_readable(channel.wake, timeout=10)
        channel.wake.clear()
        taken.extend(channel.take())
    for work in works:
        work.join()
    for number in range(threads):
        assert [i for n, i in taken if n == number] == list(range(items))


def test_an_item_put_between_the_last_look_and_sleep_wakes(channel: Channel) -> None:
    """The reader lowers its flag before it looks: whoever comes after the look must wake it."""
    channel.put(0)
    channel.wake.clear()
    taking = channel.take()
    assert next(taking) == 0
    assert next(taking, None) is None
    channel.put(1)
    assert is_readable(channel.wake)


# -- gathering -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "wakes_after"),
    [
        ([1], 1),
        ([3], 1),
        ([4, 4], 2),
        ([4, 8, 12, 12], 4),
        ([4, 2, 9], 2),
        ([3, 9], 1),
    ],
    ids=["one", "a few", "no more", "more each turn", "the reader took some", "later ones"],
)
def test_messages_wait_while_each_turn_brings_more(counts: list[int], wakes_after: int) -> None:
    gathering = Gathering()
    gathering.begin(monotonic() + 1000)
    turns = [gathering.goes_on(count) for count in counts]
    assert turns.index(False) == wakes_after - 1


def test_none_waits_for_others_for_long() -> None:
    gathering = Gathering()
    gathering.begin(monotonic() - 0.001)
    assert not gathering.goes_on(100)


def test_each_wake_up_begins_anew() -> None:
    gathering = Gathering()
    for _ in range(2):
        gathering.begin(monotonic() + 1000)
        assert gathering.goes_on(4)


def posted(bridge: Bridge, *counts: int) -> list[bool]:
    """Whether the reader is awake after each turn of a loop in which so many messages are posted,
    and one turn more.
    """
    loop = asyncio.new_event_loop()
    bridge.watch(loop, lambda message: None)
    awake = []
    for count in (*counts, 0):
        for i in range(count):
            bridge.post(("kind", i))
        loop.call_soon(loop.stop)
        loop.run_forever()
        awake.append(is_readable(bridge.to_main.wake))
    bridge.unwatch(loop)
    loop.close()
    return awake


def test_one_message_wakes_in_its_turn(bridge: Bridge) -> None:
    assert posted(bridge, 1) == [True, True]


def test_many_messages_wake_in_the_turn_after(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("httpuv_kernel.bridge._TOGETHER", 1000.0)
    assert posted(bridge, 10) == [False, True]


@pytest.mark.parametrize("taken", [False, True], ids=["waiting", "taken"])
def test_a_loop_that_ends_wakes_for_what_it_has_posted(bridge: Bridge, taken: bool) -> None:
    """Also for what a reader that was awake has taken: it sleeps, and no `put` would wake it."""
    loop = asyncio.new_event_loop()
    bridge.watch(loop, lambda message: None)
    taking = bridge.to_main.take()
    if taken:
        bridge.to_main.put((0.0, ("other",)))
        next(taking)
    bridge.post(("kind",))
    if taken:
        list(taking)
        bridge.to_main.wake.clear()
    bridge.unwatch(loop)
    loop.close()
    assert is_readable(bridge.to_main.wake)


# -- plain values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [0, 1.5, "text", b"bytes", None, True, (1, "a"), [1, [2]], {"a": (1, None)}],
    ids=repr,
)
def test_plain_values_pass(bridge: Bridge, value: object) -> None:
    bridge.send(("kind", value))
    bridge.post(("kind", value))
    assert list(bridge.to_network.take()) == [("kind", value)]
    ((when, message),) = bridge.to_main.take()
    assert message == ("kind", value)
    assert when <= monotonic()


OBJECTS = pytest.mark.parametrize("value", [object(), ValueError("a"), Channel, range(3)], ids=repr)


@OBJECTS
@pytest.mark.parametrize("direction", ["send", "post"])
def test_objects_do_not(bridge: Bridge, value: object, direction: str) -> None:
    put: Callable[[tuple[object, ...]], None] = getattr(bridge, direction)
    with pytest.raises(ValueError, match="unmarshallable"):
        put(("kind", [value]))


def test_what_was_sent_is_a_copy(bridge: Bridge) -> None:
    value = [1]
    bridge.send(("kind", value))
    value.append(2)
    assert list(bridge.to_network.take()) == [("kind", [1])]


# -- questions -------------------------------------------------------------------------------------


def answering(bridge: Bridge, answer: Callable[[int], None]) -> Work[None]:
    """The network side, which takes one question."""

    def run() -> None:
        wait_until(lambda: bridge.to_network)
        ((_, call, *_),) = bridge.to_network.take()
        answer(call)

    return Work(run)


def test_a_reply(bridge: Bridge) -> None:
    work = answering(bridge, lambda call: bridge.reply(call, [1, "a"]))
    assert bridge.ask("kind", 2) == [1, "a"]
    work.result()


def test_a_question_carries_its_arguments(bridge: Bridge) -> None:
    asked: list[object] = []

    def run() -> None:
        wait_until(lambda: bridge.to_network)
        for kind, call, *arguments in bridge.to_network.take():
            asked.append((kind, arguments))
            bridge.reply(call)

    work = Work(run)
    bridge.ask("kind", 1, "a")
    work.result()
    assert asked == [("kind", [1, "a"])]


def test_an_error_of_the_system(bridge: Bridge) -> None:
    work = answering(bridge, lambda call: bridge.reply_error(call, errno.EADDRINUSE, "in use"))
    with pytest.raises(OSError, match="in use") as caught:
        bridge.ask("kind")
    assert caught.value.errno == errno.EADDRINUSE
    work.result()


def test_an_error_that_is_itself_a_timeout(bridge: Bridge) -> None:
    work = answering(bridge, lambda call: bridge.reply_error(call, errno.ETIMEDOUT, "slow"))
    with pytest.raises(TimeoutError, match="slow"):
        bridge.ask("kind")
    work.result()


def test_no_reply_in_time(bridge: Bridge) -> None:
    with pytest.raises(NetworkError, match=r"'kind' within 0\.05 s"):
        bridge.ask("kind", timeout=0.05)


def test_a_reply_that_comes_too_late_is_dropped(bridge: Bridge) -> None:
    with pytest.raises(NetworkError):
        bridge.ask("kind", timeout=0.01)
    ((_, call),) = bridge.to_network.take()
    bridge.reply(call, 1)
    bridge.reply_error(call, 1, "late")


def test_a_second_reply_is_dropped(bridge: Bridge) -> None:
    def answer(call: int) -> None:
        bridge.reply(call, 1)
        bridge.reply(call, 2)
        bridge.reply_error(call, 1, "late")

    work = answering(bridge, answer)
    assert bridge.ask("kind") == 1
    work.result()


def test_questions_of_many_threads_get_their_own_replies(bridge: Bridge) -> None:
    asking = [Work(bridge.ask, "kind", i) for i in range(20)]

    def answer_all() -> None:
        for _ in range(20):
            wait_until(lambda: bridge.to_network)
            _, call, number = next(iter(bridge.to_network.take()))
            bridge.reply(call, number * 10)

    in_thread(answer_all)
    assert [work.result() for work in asking] == [i * 10 for i in range(20)]


def test_without_the_check_nothing_is_copied() -> None:
    bridge = Bridge()
    value = [1]
    bridge.send(("kind", value))
    ((_, sent),) = bridge.to_network.take()
    bridge.close()
    assert sent is value
