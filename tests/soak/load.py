"""The clients of the soak. Each checks what it gets, and says what was wrong."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import websocket
from helpers import Client, request
from soak.app import content

__all__ = ["Load", "make_files"]

_SIZES = (0, 1, 700, 5_000, 40_000, 300_000)
_FILES = {"small.txt": 900, "middle.bin": 200_000, "large.bin": 3_000_000}

_UPGRADE = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", 13),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


def make_files(folder: Path) -> None:
    """The files that are asked for."""
    for number, (name, size) in enumerate(_FILES.items()):
        (folder / name).write_bytes(content(number, size))


@dataclass
class Load:
    """Clients in threads, at rest or at work."""

    port: int
    figures: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._works = threading.Event()
        self._ends = threading.Event()
        self._busy = Counter[str]()
        self._lock = threading.Lock()
        kinds = [self._pages, self._uploads, self._files, self._echo, self._leave]
        self._threads = [threading.Thread(target=self._run, args=(kind,)) for kind in kinds]
        self._threads += [threading.Thread(target=self._run, args=(self._room, n)) for n in (1, 2)]
        for thread in self._threads:
            thread.start()

    def work(self, seconds: float) -> None:
        """Let all work for so long, then wait until the last has ended its round."""
        self._works.set()
        time.sleep(seconds)
        self.rest()

    def rest(self) -> None:
        """Return when nobody has a connection any more."""
        self._works.clear()
        deadline = time.monotonic() + 60
        while sum(self._busy.values()) and time.monotonic() < deadline:
            time.sleep(0.01)
        busy = {name: count for name, count in self._busy.items() if count}
        assert not busy, f"clients that still wait for an answer: {busy}"

    def close(self) -> None:
        """End the threads."""
        self._ends.set()
        self._works.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self, kind: Callable[..., None], *arguments: int) -> None:
        name = f"{kind.__name__.strip('_')}{arguments or ''}"
        chance = random.Random(name)
        while not self._ends.is_set():
            self._works.wait()
            with self._lock:
                self._busy[name] += 1
            try:
                if not self._ends.is_set():
                    kind(chance, *arguments)
            except Exception as error:
                self.errors.append(f"{name}: {error!r}")
                time.sleep(0.1)
            finally:
                with self._lock:
                    self._busy[name] -= 1

    def _count(self, **figures: int) -> None:
        with self._lock:
            self.figures.update(figures)

    def _expect(self, found: object, wanted: object, what: str) -> None:
        if found != wanted:
            self.errors.append(f"{what}: {str(found)[:80]} instead of {str(wanted)[:80]}")

    # -- HTTP ----------------------------------------------------------------------------------

    def _pages(self, chance: random.Random) -> None:
        """Pipelines of pages on a connection that stays."""
        with Client(self.port, timeout=30) as client:
            for _ in range(chance.randint(1, 10)):
                cases = [
                    (
                        chance.choice(["page", "stream"]),
                        chance.randrange(10**6),
                        chance.choice(_SIZES),
                    )
                    for _ in range(chance.randint(1, 6))
                ]
                client.send(
                    b"".join(
                        request(target=f"/{kind}?seed={seed}&size={size}")
                        for kind, seed, size in cases
                    )
                )
                for kind, seed, size in cases:
                    reply = client.read_reply()
                    self._expect(reply.status, 200, kind)
                    self._expect(reply.body, content(seed, size), f"{kind} of {size}")
                    self._count(requests=1, bytes=size)

    def _uploads(self, chance: random.Random) -> None:
        """Bodies in memory and on disk, of known length and in chunks."""
        with Client(self.port, timeout=30) as client:
            for _ in range(chance.randint(1, 8)):
                body = content(chance.randrange(10**6), chance.choice(_SIZES))
                cut = chance.randrange(len(body) + 1)
                pieces = [piece for piece in (body[:cut], body[cut:]) if piece]
                whole = chance.random() < 0.5
                headers = [] if body or not whole else [("Content-Length", 0)]
                client.send(request("POST", "/", headers, body if whole else pieces))
                reply = client.read_reply()
                self._expect(reply.text, hashlib.sha256(body).hexdigest(), "an upload's digest")
                self._count(requests=1, uploads=1, bytes=len(body))

    def _files(self, chance: random.Random) -> None:
        """Whole files, parts of them, and what has not changed."""
        with Client(self.port, timeout=30) as client:
            for _ in range(chance.randint(1, 8)):
                number, name = chance.choice(list(enumerate(_FILES)))
                body, target = content(number, _FILES[name]), f"/files/{name}"
                first = chance.randrange(len(body))
                last = min(len(body) - 1, first + chance.randrange(100_000))
                part = client.ask(target=target, headers=[("Range", f"bytes={first}-{last}")])
                self._expect(part.status, 206, "a part")
                self._expect(part.body, body[first : last + 1], "a part of a file")
                same = client.ask(target=target, headers=[("If-None-Match", part["etag"])])
                self._expect(same.status, 304, "a file that is known")
                whole = client.ask(target=target)
                self._expect(whole.body, body, "a file")
                self._count(requests=3, bytes=len(part.body) + len(body))

    def _leave(self, chance: random.Random) -> None:
        """A client that goes before it has what it asked for."""
        asks = [
            request(target="/files/large.bin"),
            request(target="/stream?seed=1&size=300000"),
            request("POST", body=content(1, 300_000)),
            request(target="/page?seed=1&size=40000") * 5,
            request(target="/room", headers=_UPGRADE),
        ]
        data = chance.choice(asks)
        with suppress(ConnectionError), Client(self.port, timeout=30) as client:
            client.send(data[: chance.choice([len(data), chance.randrange(len(data) + 1)])])
            time.sleep(chance.random() * 0.02)
            if chance.random() < 0.5:
                client.reset()
        self._count(left=1)

    # -- WebSockets ----------------------------------------------------------------------------

    def _connect(self, path: str) -> websocket.WebSocket:
        return websocket.create_connection(f"ws://localhost:{self.port}/{path}", timeout=30)

    def _echo(self, chance: random.Random) -> None:
        """Numbered messages, many on their way at once; each comes back once, in order."""
        socket = self._connect("echo")
        try:
            for _ in range(chance.randint(1, 5)):
                count = chance.randint(1, 30)
                sent = [
                    b"%d:" % number + content(number, chance.choice((0, 10, 3_000, 70_000)))
                    for number in range(count)
                ]
                for message in sent:
                    socket.send_binary(message)
                for message in sent:
                    self._expect(socket.recv(), message, "an echo")
                self._count(messages=count, bytes=sum(map(len, sent)))
        finally:
            socket.close()

    def _room(self, chance: random.Random, member: int) -> None:
        """A member of a room: hears its own messages all, those of others without a gap."""
        socket = self._connect("room")
        me = f"{member}-{chance.randrange(10**9)}"
        heard: dict[str, int] = {}
        try:
            count = chance.randint(5, 60)
            for number in range(count):
                socket.send(f"{me}:{number}")
            while heard.get(me, -1) < count - 1:
                sender, _, number = str(socket.recv()).partition(":")
                if sender in heard or sender == me:
                    self._expect(int(number), heard.get(sender, -1) + 1, f"{me} heard {sender}")
                heard[sender] = int(number)
                self._count(messages=1)
        finally:
            socket.close()
