"""What is measured, by the name that `--only` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..report import Row
from .base import Bench
from .busy import beside, flood
from .footprint import memory
from .throughput import dynamic, static
from .websockets import broadcast, echo, sockets

SCENARIOS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "dynamic": dynamic,
    "static": static,
    "flood": flood,
    "beside": beside,
    "memory": memory,
    "echo": echo,
    "broadcast": broadcast,
    "sockets": sockets,
}

__all__ = ["SCENARIOS", "Bench"]
