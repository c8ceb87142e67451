"""The README's table of the manual's names: all of the index is there, and is what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import httpuv_kernel

README = Path(__file__).parent.parent / "README.md"

# The manual's index (httpuv 1.6.17, page 21), and the public members that its pages name.
INDEX = [
    "httpuv-package",
    "decodeURI",
    "decodeURIComponent",
    "encodeURI",
    "encodeURIComponent",
    "excludeStaticPath",
    "httpuv",
    "interrupt",
    "ipFamily",
    "later::later",
    "later::run_now",
    "listServers",
    "PipeServer",
    "randomPort",
    "rawToBase64",
    "runServer",
    "runStaticServer",
    "service",
    "startDaemonizedServer",
    "startPipeServer",
    "startServer",
    "staticPath",
    "staticPathOptions",
    "stopAllServers",
    "stopDaemonizedServer",
    "stopServer",
    "utils::URLdecode",
    "utils::URLEncode",
    "WebServer",
    "WebSocket",
]
MEMBERS = [
    "stop",
    "isRunning",
    "getHost",
    "getPort",
    "getName",
    "getMask",
    "getStaticPaths",
    "setStaticPath",
    "removeStaticPath",
    "getStaticPathOptions",
    "setStaticPathOption",
    "onMessage",
    "onClose",
    "send",
    "close",
    "handle",
    "messageCallbacks",
    "closeCallbacks",
    "request",
]
INTERNAL = {"__version__", "load_ipython_extension", "unload_ipython_extension"}


def rows() -> list[tuple[list[str], str]]:
    """The names on the left, without arguments, and the text on the right."""
    section = README.read_text().split("## Names of the manual")[1].split("\n## ")[0]
    found = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)[1:]
    return [(re.findall(r"`([\w:-]+?)(?:\(.*?\))?`", left), right) for left, right in found]


TABLE = rows()


@pytest.mark.parametrize("name", [*INDEX, *MEMBERS])
def test_every_entry_of_the_manual_is_in_the_table(name: str) -> None:
    assert [right for left, right in TABLE if name in left], name


def resolve(text: str, owner: str | None) -> object:
    if text == "httpuv_kernel":
        return httpuv_kernel
    if owner is None:
        return getattr(httpuv_kernel, text)
    kind = getattr(httpuv_kernel, owner)
    documented = re.search(rf"^\s+{text}: ", kind.__doc__ or "", re.MULTILINE)
    return documented or getattr(kind, text)


@pytest.mark.parametrize("right", [right for _, right in TABLE])
def test_every_name_in_the_table_exists(right: str) -> None:
    owner, colon, members = right.partition("`: ")
    names = re.findall(r"`([\w.]+)(?:\(\))?`", members if colon else right)
    assert names
    for name in names:
        assert resolve(name, owner.strip("`") if colon else None), name


@pytest.mark.parametrize("name", sorted(set(httpuv_kernel.__all__) - INTERNAL))
def test_every_public_name_is_in_the_readme(name: str) -> None:
    """But for the errors, which their module draws as a tree."""
    if name in httpuv_kernel.errors.__all__:
        assert name in (httpuv_kernel.errors.__doc__ or "")
    else:
        assert name in README.read_text(), name
