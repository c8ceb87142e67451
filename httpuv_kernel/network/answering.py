"""The states of a connection's answering, and what each allows.

Network side.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = [
    "ASKED",
    "CALLED",
    "CLOSED",
    "DONE",
    "NEXT",
    "NOTHING",
    "OPENS",
    "READS",
    "RECEIVING",
    "STREAMING",
    "UNDER_WAY",
    "UNDER_WAY_HERE",
    "UPGRADING",
    "Answering",
]


class Answering(Enum):
    """What happens with the oldest unanswered request."""

    NOTHING = "there is none, or it has not begun"
    ASKED = "on_headers decides"
    RECEIVING = "its body is arriving"
    CALLED = "the main side has it"
    UPGRADING = "on_ws_open runs; then this connection is a WebSocket's"
    STREAMING = "its response is partly written"
    CLOSED = "the connection is closed, or about to be"

    __hash__ = object.__hash__  # Enum's own is a Python function, and the table is asked often


# Before Python 3.12 to find a member in its class takes as long as a call.
NOTHING, ASKED, RECEIVING, CALLED, UPGRADING, STREAMING, CLOSED = Answering

NEXT: Final = {
    NOTHING: frozenset(Answering),
    ASKED: frozenset(Answering) - {ASKED},
    RECEIVING: frozenset({CALLED, NOTHING, CLOSED}),
    CALLED: frozenset({STREAMING, NOTHING, CLOSED}),
    UPGRADING: frozenset({NOTHING, CLOSED}),
    STREAMING: frozenset({NOTHING, CLOSED}),
    CLOSED: frozenset({CLOSED}),
}

# While it is one of these, what arrives is parsed; else it waits.
READS: Final = frozenset({NOTHING, RECEIVING})

# The response is written as far as this side is concerned.
DONE: Final = frozenset({NOTHING, CLOSED})

# While it is one of these, on_ws_open may run, or have run.
OPENS: Final = frozenset({UPGRADING, CLOSED})

# A server that stops waits for the response: with the main side's help, or without.
UNDER_WAY: Final = frozenset({ASKED, RECEIVING, CALLED, STREAMING})
UNDER_WAY_HERE: Final = frozenset({STREAMING})
