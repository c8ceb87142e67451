"""The pages that the network side makes itself: directory listings and errors.

Rendered from the package's templates; no external asset, only relative links, so they work under
any proxy's prefix.

Network side.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import time
from collections.abc import Iterator
from html import escape
from http.client import responses as _PHRASES
from importlib.resources import files
from typing import NamedTuple
from urllib.parse import quote

from tornado.template import DictLoader

from ..fields import response_head, status_line
from ..messages import Fields
from ..static_paths import StaticRule
from .exchange import Exchange, Reply
from .files import failure_status, is_safe_segment, real_path_allowed

__all__ = ["accepts_html", "error_reply", "listing"]

_THUMBNAILS = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".svg", ".bmp", ".ico")
_ROW = (
    '<tr class="%s" data-n="%s"><td class="name"><a href="./%s">%s<b>%s</b></a></td>'
    '<td class="size" data-v="%d">%s</td><td class="time" data-v="%d">%s</td></tr>\n'
)


@functools.lru_cache(maxsize=1)
def _templates() -> DictLoader:
    folder = files("httpuv_kernel.static_assets") / "templates"
    names = ("style.css", "error.html", "listing.html")
    return DictLoader({name: (folder / name).read_text(encoding="utf-8") for name in names})


def _render(name: str, **values: object) -> bytes:
    templates = _templates()
    return templates.load(name).generate(style=templates.dict["style.css"], **values)


def accepts_html(fields: Fields) -> bool:
    """Whether the client is one that shows pages."""
    return any(name == b"accept" and b"text/html" in value for name, value in fields)


def error_reply(
    exchange: Exchange, status: int, headers: dict[str, str] | None = None, *, text: str = ""
) -> Reply:
    """An answer without a file: a page for a browser, one line for everybody else."""
    kind = "text/plain; charset=utf-8"
    body = status_line(status)[9:-2] + (b": " + text.encode() if text else b"") + b"\n"
    if accepts_html(exchange.fields):
        phrase = _PHRASES.get(status, "")
        with contextlib.suppress(OSError):  # without descriptors the template cannot be read
            page = _render("error.html", status=status, phrase=phrase, text=text)
            kind, body = "text/html; charset=utf-8", page
    all_headers = {
        "Content-Type": kind,
        "Vary": "Accept",
        "X-Content-Type-Options": "nosniff",
        **(headers or {}),
    }
    return Reply(response_head(status, all_headers, None), body)


class _Entry(NamedTuple):
    """What a listing shows of one name."""

    name: str
    is_directory: bool
    size: int
    modified: int


def listing(rule: StaticRule, folder: str, segments: list[str]) -> bytes | None:
    """The page that lists a folder, directories first; None when it is not for us to read.

    Raises:
        OSError: it cannot be read, as `failure_status` says.
    """
    try:
        entries = sorted(
            _entries(rule, folder, segments),
            key=lambda entry: (not entry.is_directory, entry.name.lower(), entry.name),
        )
    except OSError as error:
        if failure_status(error) != 404:
            raise
        return None
    names = [os.path.basename(rule.path) or "/", *segments]
    depth = len(names) - 1
    crumbs = [("../" * (depth - i), _text(name)) for i, name in enumerate(names)]
    folders = sum(entry.is_directory for entry in entries)
    total = sum(entry.size for entry in entries)
    return _render(
        "listing.html",
        title=_text(names[-1]),
        crumbs=crumbs,
        up=depth > 0,
        rows="".join(map(_row, entries)),
        summary=f"{_count(folders, 'folder')}, {_count(len(entries) - folders, 'file')}"
        + (f", {_human_size(total)}" if total else ""),
    )


def _entries(rule: StaticRule, folder: str, segments: list[str]) -> Iterator[_Entry]:
    """What may be served of a folder: a name that answers 404 is not listed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_safe_segment(entry.name, hidden=rule.hidden):
                continue
            try:
                status = entry.stat()
                linked = entry.is_symlink()
            except OSError:  # a broken link, or gone meanwhile
                continue
            if linked and not real_path_allowed(
                rule.path, [*segments, entry.name], rule.follow_symlinks
            ):
                continue
            if stat.S_ISDIR(status.st_mode):
                yield _Entry(entry.name, True, 0, int(status.st_mtime))
            elif stat.S_ISREG(status.st_mode):
                yield _Entry(entry.name, False, status.st_size, int(status.st_mtime))


def _row(entry: _Entry) -> str:
    shown = escape(_text(entry.name))
    link = quote(os.fsencode(entry.name))
    local = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.modified))
    if entry.is_directory:
        return _ROW % ("dir", shown, link + "/", "<i></i>", shown, -1, "", entry.modified, local)
    icon = "<i></i>"
    if entry.name.lower().endswith(_THUMBNAILS):
        icon = f'<img src="./{link}" alt="" loading="lazy">'
    size = _human_size(entry.size)
    return _ROW % ("file", shown, link, icon, shown, entry.size, size, entry.modified, local)


def _text(name: str) -> str:
    """A file's name as text; bytes that are not UTF-8 show as a mark."""
    return os.fsencode(name).decode("utf-8", "replace")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _human_size(size: int) -> str:
    if size < 1000:
        return f"{size} B"
    value, units = size / 1000, iter(("kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 999.5 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
