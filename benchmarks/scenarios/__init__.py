"""What is measured, by the name that `--only` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..report import Row
from .base import Bench
from .busy import beside, flood
from .footprint import memory
from .throughput import dynamic, static

SCENARIOS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "dynamic": dynamic,
    "static": static,
    "flood": flood,
    "beside": beside,
    "memory": memory,
}

__all__ = ["SCENARIOS", "Bench"]
