"""Snapshots of values, as the network side serves them while a cell runs; and a progress page.

Main side.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sized
from importlib.resources import files
from time import monotonic
from typing import Any, Protocol, TypeVar

from ..fields import ResponseHead, response_head
from ..media_types import media_type as type_of_path
from .rich import is_rich, render

__all__ = ["progress", "snapshot"]

T = TypeVar("T")

_PERIOD = 0.1  # seconds between two states of a progress page


class Publisher(Protocol):
    """What a progress page needs of a server."""

    def publish(self, path: str, value: object, *, media_type: str | None = None) -> None:
        """Serve a value, as it is now; see `Server.publish`."""


def snapshot(path: str, value: object, media_type: str | None) -> tuple[ResponseHead, bytes]:
    """The response that shows a value as it is now.

    Raises:
        TypeError: a value that is neither bytes, text, rich, nor can be JSON.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        kind, body = type_of_path(path), bytes(value)
    elif isinstance(value, str):
        is_page = value.lstrip()[:1] == "<"
        kind, body = f"text/{'html' if is_page else 'plain'}; charset=utf-8", value.encode()
    elif is_rich(value):
        chosen, body = render(value, media_type or "text/html, image/*, */*;q=0.1")
        kind = chosen or "text/plain; charset=utf-8"
    else:
        kind, body = "application/json", json.dumps(value).encode()
    headers = {"Content-Type": media_type or kind, "Cache-Control": "no-store"}
    return response_head(200, headers, None), body


def progress(
    iterable: Iterable[T],
    server: Publisher,
    path: str = "/progress",
    *,
    total: float | None = None,
    label: str = "",
) -> Iterator[T]:
    """Go through an iterable, and show at a path of a server how far that is.

    The page moves while the cell runs: the network side serves it. A `tqdm` as iterable lends its
    description, and shows its bar in the cell as ever. The page stays when the loop is over.

    Args:
        iterable: what to go through.
        server: a server of this process.
        path: where the page is; its figures are JSON at the same path with ".json".
        total: the number of items, when `len(iterable)` does not tell.
        label: what is going on, as the page's title.
    """
    if total is None:
        total = getattr(iterable, "total", None)
        if total is None and isinstance(iterable, Sized):
            total = len(iterable)
    page = (files("httpuv_kernel.static_assets") / "templates" / "progress.html").read_bytes()
    server.publish(path, page, media_type="text/html; charset=utf-8")
    begun = shown = monotonic()
    done = 0
    state = "running"

    def show() -> None:
        figures = {"done": done, "total": total, "label": label, "state": state}
        figures["seconds"] = monotonic() - begun
        figures.update(_tqdm_figures(iterable))
        server.publish(path + ".json", figures)

    show()
    try:
        for item in iterable:
            yield item
            done += 1
            if monotonic() - shown > _PERIOD:
                shown = monotonic()
                show()
        state = "done"
    finally:
        if state == "running":
            state = "ended early"
        show()


def _tqdm_figures(iterable: Any) -> dict[str, Any]:
    """What a tqdm knows better: its description and its count, where it starts elsewhere."""
    figures = getattr(iterable, "format_dict", None)
    if not isinstance(figures, dict):
        return {}
    label = str(figures.get("prefix") or "").rstrip(": ")
    return {"label": label} if label else {}
