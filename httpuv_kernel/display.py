"""What a notebook shows of a server.

Main side's ground. Pure: text from values.
"""

from __future__ import annotations

from html import escape

__all__ = ["server_html", "server_text"]

_STYLE = (
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);display:inline-flex;gap:.6em;"
    "align-items:baseline;padding:.3em .7em;border:1px solid var(--jp-border-color2,#8885);"
    "border-radius:.4em"
)


def server_text(url: str, content: str, running: bool) -> str:
    """One line about a server."""
    return f"{url if running else 'stopped'}  {content}"


def server_html(url: str, content: str, running: bool) -> str:
    """The same as HTML, with a link while the server runs."""
    mark = "#2a9d55" if running else "#999"
    dot = f'<span style="color:{mark}" aria-hidden="true">●</span>'
    if running:
        where = f'<a href="{escape(url)}" target="_blank" rel="noopener">{escape(url)}</a>'
    else:
        where = "<span>stopped</span>"
    return (
        f'<div style="{_STYLE}">{dot}{where}<span style="opacity:.7">{escape(content)}</span></div>'
    )
