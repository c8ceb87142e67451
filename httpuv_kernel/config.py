"""Every default and limit, as traits: set them in a configuration file (`c.HTTPUV.body_bytes =
...`) or on `HTTPUV.instance()`. A server takes the values as they are when it is started.

Main side's ground: the network side gets what it needs as plain values.
"""

from __future__ import annotations

import logging
import sys

from traitlets import Bool, CaselessStrEnum, CInt, Enum, Float, List, Unicode, observe
from traitlets.config import SingletonConfigurable

from .messages import Limits

__all__ = ["HTTPUV"]

_KIB = 1024
_MIB = 1024 * _KIB


class _ToStderr(logging.StreamHandler):  # type: ignore[type-arg]  # Python 3.10
    """Writes to what sys.stderr is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self.stream = sys.stderr
        super().emit(record)


_handler = _ToStderr()
_handler.setFormatter(logging.Formatter("%(levelname)s httpuv_kernel: %(message)s"))


class HTTPUV(SingletonConfigurable):
    """Settings of httpuv_kernel. Sizes are bytes, times seconds."""

    header_bytes = CInt(
        64 * _KIB,
        help="Largest header block of a request; more gets 431. Browsers send cookies of all "
        "ports of a host, so it is well above the usual 8 KiB.",
    ).tag(config=True)
    body_bytes = CInt(
        256 * _MIB,
        help="Largest body of a request; more gets 413. Larger ones than spool_bytes are on "
        "disk, so this bounds the disk, not the memory.",
    ).tag(config=True)
    spool_bytes = CInt(
        _MIB,
        help="Bodies of requests above this are kept in a temporary file instead of memory.",
    ).tag(config=True)
    connections = CInt(
        1000,
        help="Clients connected to one server at once; more get 503. Each costs up to 20 kB "
        "and a file descriptor, of which a process often has 1024.",
    ).tag(config=True)
    pending = CInt(
        1000,
        help="Requests of one server that may wait for a busy kernel; more get 503 at once.",
    ).tag(config=True)
    header_timeout = Float(
        30.0,
        help="A header block must be there this long after its first byte; else 408.",
    ).tag(config=True)
    body_timeout = Float(
        60.0,
        help="A body that is arriving may pause this long; else 408.",
    ).tag(config=True)
    keep_alive_timeout = Float(
        75.0,
        help="A connection without a request is closed after this time; nginx's default.",
    ).tag(config=True)
    write_timeout = Float(
        60.0,
        help="A client that takes nothing of its response for this long is cut.",
    ).tag(config=True)
    linger_timeout = Float(
        2.0,
        help="After a response to a request that was not read to its end, what the client "
        "still sends is read this long, so that the response reaches it.",
    ).tag(config=True)
    stop_timeout = Float(
        2.0,
        help="A server that is stopped gives the responses on their way so long to get "
        "out; then it closes. A cell that stops a server waits for them, also for a download.",
    ).tag(config=True)
    gzip_bytes = CInt(
        _KIB,
        help="Text of at least this size is sent with gzip; below, the gain is lost in a packet.",
    ).tag(config=True)
    message_bytes = CInt(
        16 * _MIB,
        help="Largest WebSocket message, after decompression; more closes the socket with 1009.",
    ).tag(config=True)
    ping_interval = Float(
        20.0,
        help="A WebSocket that is silent this long gets a ping, so that no proxy drops it.",
    ).tag(config=True)
    pong_timeout = Float(
        60.0,
        help="A WebSocket that is silent this long after a ping is cut.",
    ).tag(config=True)
    compress_messages = Bool(
        True,
        help="Compress WebSocket messages (permessage-deflate) for clients that offer it.",
    ).tag(config=True)
    allowed_origins = List(
        Unicode(),
        help="Origins such as 'https://hub.example' whose pages may open WebSockets, beside the "
        "server's own; '*' for all. Protects against cross-site WebSocket hijacking.",
    ).tag(config=True)
    allowed_hosts = List(
        Unicode(),
        help="Names under which a server on a loopback address may be asked for, beside "
        "localhost and IP addresses; '.example.org' allows all below it. Protects against"
        " DNS rebinding.",
    ).tag(config=True)
    isolation = Enum(
        ["thread", "process"],
        default_value="thread",
        help="Where the network side of servers runs: in a thread of the kernel, or in a process "
        "of its own, which a cell of pure Python, or one that holds the GIL in C, cannot hold up.",
    ).tag(config=True)
    restart_network = Bool(
        True,
        help="Start a network process that was killed again, with its servers.",
    ).tag(config=True)
    switch_interval = Float(
        0.0005,
        help="sys.setswitchinterval() while a server runs; 0 leaves it alone. Python's 5 ms "
        "let 76 files a second through beside a computing cell, this lets 1,056.",
    ).tag(config=True)
    check_bridge = Bool(
        False,
        help="Prove that all messages between the two sides are plain values; for tests.",
    ).tag(config=True)

    log_level = CaselessStrEnum(
        ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        default_value=None,
        allow_none=True,
        help="What is logged: WARNING has faults and limits that were met, INFO also clients that "
        "were refused or cut, DEBUG also each that comes and goes. None leaves it to the logging "
        "module's own configuration of the logger 'httpuv_kernel'.",
    ).tag(config=True)

    @observe("log_level")
    def _set_log_level(self, change: dict[str, str | None]) -> None:
        logger = logging.getLogger("httpuv_kernel")
        logger.setLevel(change["new"] or logging.NOTSET)
        logger.removeHandler(_handler)
        if change["new"] is not None and not logger.hasHandlers():
            # Without one, Python shows warnings only, whatever the level.
            logger.addHandler(_handler)

    busy_timeout = Float(
        0.0,
        help="A request that waits this long for a busy kernel gets 503, browsers a page that "
        "reloads itself; 0 lets it wait until the kernel is idle.",
    ).tag(config=True)
    output_limit = CInt(
        1_000_000,
        help="Characters that handlers may print in a minute; the rest is left out, with a note. "
        "A notebook keeps all that is printed, in its file too. Read when the first server starts.",
    ).tag(config=True)
    journal_entries = CInt(
        1000,
        help="How many of the last responses of a server are kept for %httpuv_log and "
        "Server.log().",
    ).tag(config=True)

    def limits(self) -> Limits:
        """The limits of a server that is started now."""
        return Limits(*(getattr(self, name) for name in Limits._fields))
