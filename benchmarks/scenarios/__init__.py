"""What is measured, by the name that `--only` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..report import Row
from .base import Bench
from .busy import beside, cost, flood
from .footprint import life, memory
from .latency import latency
from .throughput import bodies, dynamic, static
from .websockets import broadcast, echo, sockets

SCENARIOS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "dynamic": dynamic,
    "static": static,
    "bodies": bodies,
    "latency": latency,
    "flood": flood,
    "beside": beside,
    "cost": cost,
    "life": life,
    "memory": memory,
    "echo": echo,
    "broadcast": broadcast,
    "sockets": sockets,
}

__all__ = ["SCENARIOS", "Bench"]
