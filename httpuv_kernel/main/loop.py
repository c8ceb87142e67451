"""The main thread's loop over callbacks: what `drain`, `service` and `run_now` have in common.

The host calls `drain` when it is idle; `service` and `run_now` are called by user code that wants
callbacks now. All three take what is due from one queue. A drain is bounded, so that under a flood
of requests the host still gets its turn: a kernel needs several turns of its own loop to start a
cell.

Main side.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from time import monotonic
from types import TracebackType
from typing import Any

from ..bridge import Channel, Questions
from ..config import HTTPUV
from ..errors import HandlerInterrupted, MainThreadError
from ..hosts import FloodGate, Host, Output
from ..messages import ALARM
from .app import call_user, user_traceback
from .interrupts import InterruptGuard
from .later import CallbackQueue, Entry, new_entry
from .pacing import Pacing

__all__ = ["MainLoop"]

log = logging.getLogger("httpuv_kernel")

# Callbacks for so long, then a pause in which the host's loop sleeps. Measured on a flood of 32
# connections: cells start within 50 ms; without the pause they wait up to 5 s, because a kernel's
# channels need the GIL several times before a cell runs.
_BUDGET = 0.010
_PAUSE = 0.002

# An interrupt that the system gave to another thread does not end a wait; it is seen this late.
_GLANCE = 0.5

_ENTRY = "entry"  # the kind of the messages by which any thread of this side queues a callback


class MainLoop:
    """Runs callbacks on the main thread. `push`, `later` and `stop_service` in any thread."""

    def __init__(self, host: Host, inbox: Channel) -> None:
        self.host = host
        self.networks: list[Questions] = []
        """The network sides that run; the first wakes us when it is time, else a timer does."""
        self.queue = CallbackQueue()
        """What is run from: the main queue, or that of the innermost private loop."""
        self._main_queue = self.queue
        self.handlers: dict[str, Callable[..., None]] = {_ENTRY: self._on_entry}
        """By the kind of message: called with its time and its items, when it is taken off the
        bridge; queues what is to be run, and runs no user code."""
        self._inbox = inbox
        self._guard = InterruptGuard(call_user.__code__, self._nudge_both)
        self._guard.obeys_ignore = not host.interactive
        self._alarm_at = math.inf
        self._running = False
        self._drain_again = False
        self._serving = 0
        self._stopped = False
        self.served = 0
        """Callbacks run so far."""
        self.stops = 0
        """Calls of `stop_service` so far."""
        self._pacing = Pacing(self.networks)
        self._waiters: list[asyncio.Future[None]] = []
        self.flood_gate = FloodGate(HTTPUV.instance().output_limit)
        host.attach(self._inbox.wake.fileno(), self.drain)

    def move_to(self, host: Host) -> None:
        """Run callbacks where the process is idle now: a script may have begun to run asyncio."""
        self.host.detach()
        self.host = host
        self._guard.obeys_ignore = not host.interactive
        host.attach(self._inbox.wake.fileno(), self.drain)
        self._inbox.nudge()

    def close(self) -> None:
        """Let go of the host."""
        self.host.detach()

    # -- queueing, in any thread -----------------------------------------------------------------

    def push(
        self, queue: CallbackQueue, function: Callable[..., None], *arguments: object
    ) -> Entry:
        """Run a function of ours after what waits already."""
        return self.later(queue, 0.0, function, *arguments)

    def later(
        self,
        queue: CallbackQueue,
        delay: float,
        function: Callable[..., None],
        *arguments: object,
    ) -> Entry:
        """Run it in `delay` seconds."""
        entry = new_entry(monotonic() + delay, function, *arguments)
        self._inbox.put((entry[0], (_ENTRY, queue, entry)))
        return entry

    @property
    def queue_here(self) -> CallbackQueue:
        """The queue of the private loop that the caller is in, or the main one."""
        is_main = threading.current_thread() is threading.main_thread()
        return self.queue if is_main else self._main_queue

    def stop_service(self) -> None:
        """Make the innermost `serve_until_stopped` return."""
        self._stopped = True
        self.stops += 1
        self._inbox.nudge()

    def _set_alarm(self, when: float) -> None:
        if when >= self._alarm_at > monotonic():
            return
        self._alarm_at = when
        if self.networks:
            self.networks[0].send((ALARM, when))
        else:
            timer = threading.Timer(max(0.0, when - monotonic()), self._inbox.nudge)
            timer.daemon = True
            timer.start()

    def _nudge_both(self) -> None:
        self._inbox.nudge()
        for network in self.networks:
            network.nudge()

    # -- running, on the main thread -------------------------------------------------------------

    @InterruptGuard.waits
    def drain(self) -> None:
        """Run what is due, for a short while. The host calls this when it is idle."""
        with self._guard:
            self._inbox.wake.clear()
            self._inbox.disarm()  # also after a nudge for nothing: the next item is to wake us
            if self._running:  # a callback runs the host's loop: the outer drain goes on
                self._drain_again = True
                return
            self._running = True
            more = False
            try:
                now = monotonic()
                until = now + _BUDGET
                more = self.host.advance()
                self._pacing.begin(now)
                while now < until and (self._step(now) or (more := self.host.advance())):
                    now = monotonic()
                    self._pacing.step(now)
            finally:
                self._running = False
                self._pacing.end()
                self._rest(more)
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _rest(self, more: bool) -> None:
        """See to it that what still waits is run: after a pause when it is due already.

        `more`: coroutine handlers do.
        """
        if self._drain_again:
            self._drain_again = False
            self._inbox.nudge()
            return
        self._alarm_at = math.inf
        due = self.queue.next_due()
        if due is None and not self._inbox and not more:
            return
        pause_over = monotonic() + _PAUSE
        if due is None or due < pause_over or more:
            # The host's own timers cannot be used: they stand still under %gui.
            self._inbox.hold()
            self._set_alarm(pause_over)
        else:
            self._set_alarm(due)

    def _on_entry(self, when: float, queue: CallbackQueue, entry: Entry) -> None:
        queue.add(entry)

    def _take_inbox(self) -> None:
        for when, message in self._inbox.take():
            self.handlers[message[0]](when, *message[1:])

    def _step(self, now: float) -> bool:
        """Run the one callback that is due first; False when none is."""
        if self._inbox:
            self._take_inbox()
        entry = self.queue.pop_due(now)
        if entry is None:
            return False
        self.served += 1
        try:
            entry[2](*entry[3])
        except Exception:  # a fault of ours must not end all callbacks
            log.exception("a callback of httpuv_kernel failed")
        return True

    @contextmanager
    def _service(self) -> Generator[None, None, None]:
        """Around callbacks that user code asked for; an interrupt is raised when it is safe."""
        if threading.current_thread() is not threading.main_thread():
            raise MainThreadError(
                "callbacks run on the main thread; service(), run_now() and the like cannot "
                "be called in another, such as a Jupyter subshell's or a widget callback's"
            )
        with self._guard:
            for network in list(self.networks):  # what the callback around this has sent
                network.uncork()
            outer, self._running = self._running, True
            self._serving += 1
            try:
                yield
            finally:
                self._serving -= 1
                self._running = outer
                if self._guard.pending:
                    self.host.advance()  # a coroutine that it ended has yet to be answered
                self._inbox.nudge()  # the idle host takes it from here
        if self._guard.pending:
            raise KeyboardInterrupt

    @InterruptGuard.waits
    def run_one(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a callback, and run one. False when none came."""
        ran = False
        with self._service():
            self._forget_stop()
            ran = self._wait_and_step(monotonic() + timeout)
        return ran

    @InterruptGuard.waits
    def run_all(self, timeout: float) -> bool:
        """The same, and then all others that were due by the time the first had run."""
        ran = False
        with self._service():
            self._forget_stop()
            ran = self._wait_and_step(monotonic() + timeout)
            now = monotonic()
            while ran and not self._guard.pending and self._step(now):
                pass
        return ran

    @InterruptGuard.waits
    def run_until_stopped(self) -> None:
        """Run callbacks until `stop_service` or an interrupt."""
        with self._service():
            self._stopped = False
            while not self._stopped and not self._guard.pending:
                self._wait_and_step(math.inf)
            self._stopped = False  # it was meant for this one, not for one further out

    @InterruptGuard.waits
    def next_run_in(self) -> float:
        """Seconds until the next callback is due; infinity when none waits."""
        with self._service():
            self._take_inbox()
        due = self.queue.next_due()
        return math.inf if due is None else max(0.0, due - monotonic())

    @contextmanager
    def uninterrupted(self) -> Generator[None, None, None]:
        """Around what an interrupt must not tear; it is raised afterwards. Any thread.

        Whoever uses this is one of the functions that `InterruptGuard.waits` marks.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        with self._guard:
            yield
        if self._guard.pending:
            raise KeyboardInterrupt

    @contextmanager
    def private_queue(self) -> Generator[None, None, None]:
        """Inside it only the callbacks that are queued inside it run."""
        inner = CallbackQueue()
        with self._service():
            outer, self.queue = self.queue, inner
        try:
            yield
        finally:
            with self._service():
                self.queue = outer
                inner.pour_into(outer)

    def _forget_stop(self) -> None:
        """`stop_service` stops what runs, not what is called later."""
        if self._serving == 1:
            self._stopped = False

    async def wait_async(self, timeout: float) -> None:
        """Return after the next drain, or after `timeout` seconds; for a host whose loop drains."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await asyncio.wait([waiter], timeout=None if timeout == math.inf else timeout)

    def _wait_and_step(self, deadline: float) -> bool:
        wake = self._inbox.wake
        while not self._guard.pending:
            self.host.advance()
            if self._step(monotonic()):
                return True
            wake.clear()
            self._inbox.disarm()
            due = self.queue.next_due()
            now = monotonic()
            if self._stopped or self._guard.pending or now >= deadline:
                return False
            if self._inbox or (due is not None and due <= now):
                continue
            until = min(deadline, now + _GLANCE, math.inf if due is None else due)
            self.host.wait(wake.fileno(), until - now)
        return False

    # -- calling user code -----------------------------------------------------------------------

    def call(self, output: Output, function: Callable[..., Any], *arguments: object) -> Any:
        """Call user code; its output goes to `output`, inside `service()` to who called that."""
        try:
            with self.flood_gate:
                if self._serving and output.follows_service:
                    return call_user(function, *arguments)
                return output.run(call_user, function, *arguments)
        except KeyboardInterrupt:
            self._guard.pending = True  # the callback is over; service() is to raise it, too
            raise

    def show_error(self, output: Output, error: BaseException, where: str) -> None:
        """Show the user what a callback raised, where its output goes."""
        if isinstance(error, HandlerInterrupted) and error.__cause__ is not None:
            error = error.__cause__  # what carried it out of the loop is no news
        user_traceback(error)
        try:
            with self.flood_gate:
                if self._serving and output.follows_service:
                    self.host.show_error(error, where)
                else:
                    output.show_error(self.host, error, where)
        except Exception:  # such as a stderr that is closed
            log.error("%s: %r", where, error)

    def start_task(self, coroutine: Coroutine[Any, Any, Any], output: Output, what: str) -> None:
        """Run a coroutine of user code that nobody waits for; its error is shown."""

        def done(task: asyncio.Task[Any]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self.show_error(output, error, f"{what} failed")

        task = self.host.create_task(self.guarded(coroutine, output), output.context.copy())
        task.add_done_callback(done)

    def guarded(
        self, coroutine: Coroutine[Any, Any, Any], output: Output
    ) -> Coroutine[Any, Any, Any]:
        """A coroutine of user code whose steps an interrupt may end, but not their loop."""
        return _GuardedCoroutine(coroutine, output, self)


class _GuardedCoroutine(Coroutine[Any, Any, Any]):
    """asyncio re-raises KeyboardInterrupt and SystemExit out of its loop, which ends a kernel."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], output: Output, loop: MainLoop) -> None:
        self._coroutine = coroutine
        self._output = output
        self._guard = loop._guard
        self._flood_gate = loop.flood_gate

    def send(self, value: Any) -> Any:
        """Run a step."""
        return self._step(self._coroutine.send, value)

    def throw(
        self,
        kind: Any,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
    ) -> Any:
        """Run a step that begins with an exception."""
        error = kind if isinstance(kind, BaseException) else value or kind()
        return self._step(self._coroutine.throw, error)

    def close(self) -> None:
        """End it."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._coroutine.__await__())

    def _step(self, function: Callable[..., Any], argument: object) -> Any:
        with self._guard:
            try:
                with self._flood_gate:
                    return self._output.run_step(call_user, function, argument)
            except (KeyboardInterrupt, SystemExit) as error:
                if isinstance(error, KeyboardInterrupt):
                    self._guard.pending = True
                raise HandlerInterrupted(f"the handler was ended by {error!r}") from error
