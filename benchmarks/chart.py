"""The figures that a reader wants first, as a picture: ours beside the peers, idle and busy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .report import Row, figure
from .servers import IN_PROCESS, OURS

_COLOURS = {OURS: "#1f6f8b", IN_PROCESS: "#63a4b8"}
_PEER = "#c9c9c9"
_PANELS = {
    "Hello world, 32 connections": "Hello world from the notebook, requests/s",
    "file of 1,024 bytes": "file of 1 KiB, requests/s",
    "echo of 64 bytes, 32 WebSockets": "WebSocket echo, messages/s",
}
_BESIDE = "file of 1,024 bytes beside "
_BUSY = "file of 1 KiB while a cell runs, requests/s"


def draw(rows: list[Row], path: Path) -> None:
    """Write it as SVG; rows that were not measured are left out."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "httpuv_kernel"  # the same figures, the same file
    from matplotlib import pyplot

    by_name = {row.measure: row for row in rows}
    bars = [_servers(by_name[name], title) for name, title in _PANELS.items() if name in by_name]
    busy = _states(by_name)
    if busy:
        bars.append((_BUSY, busy))
    if not bars:
        return
    heights = [len(panel) + 1.2 for _, panel in bars]
    shape: dict[str, Any] = {"height_ratios": heights}
    size = (8, 0.27 * sum(heights) + 0.4)
    plot, axes = pyplot.subplots(len(bars), 1, figsize=size, gridspec_kw=shape, squeeze=False)
    for axis, (title, panel) in zip(axes[:, 0], bars, strict=True):
        _panel(axis, title, panel)
    plot.tight_layout()
    plot.savefig(path, metadata={"Date": None})


_Bars = list[tuple[str, float, str]]  # label, value, colour


def _servers(row: Row, title: str) -> tuple[str, _Bars]:
    names = sorted(row.samples, key=row.value, reverse=True)
    return title, [(_label(name), row.value(name), _COLOURS.get(name, _PEER)) for name in names]


def _label(name: str) -> str:
    return f"{OURS}, in a process" if name == IN_PROCESS else name


def _states(by_name: dict[str, Row]) -> _Bars:
    """Both of ours beside each thing that a cell does."""
    found: _Bars = []
    for measure, row in by_name.items():
        if measure.startswith(_BESIDE) and row.unit == "1/s":
            state = measure[len(_BESIDE) :]
            found += [
                (f"{state}{', in a process' * (name == IN_PROCESS)}", row.value(name),
                 _COLOURS[name])
                for name in (OURS, IN_PROCESS)
                if name in row.samples
            ]  # fmt: skip
    return found


def _panel(axis: Any, title: str, bars: _Bars) -> None:
    labels, values, colours = zip(*reversed(bars), strict=True)
    places = range(len(values))
    axis.barh(places, values, color=colours, height=0.75)
    axis.set_yticks(places, labels, fontsize=8)
    axis.set_title(title, loc="left", fontsize=9, fontweight="bold")
    for place, value in zip(places, values, strict=True):
        axis.text(value, place, f" {figure(value)}", va="center", fontsize=8)
    axis.set_xlim(0, max(values) * 1.15)
    axis.xaxis.set_visible(False)
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)
    axis.tick_params(left=False)
