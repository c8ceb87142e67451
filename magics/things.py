"""What a word of `%httpuv_serve` means: a name of the notebook, else a directory or a file.

Main side.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any, NamedTuple

from IPython.core.error import UsageError

from httpuv_kernel import AppError, Request, Server, StaticPathError, WebServer, list_servers
from httpuv_kernel.main.app import App, as_app
from httpuv_kernel.main.rich import is_rich
from httpuv_kernel.main.serving import FILES, files_app, given_for_files

from .running import server_named

__all__ = ["Thing", "find_thing", "value_of"]


class Thing(NamedTuple):
    """What is to be served."""

    name: str
    """How its server is called if the user says nothing else."""
    app: App
    previous: WebServer | None
    """The server that runs for it."""


def value_of(names: Mapping[str, Any], what: str) -> Any:
    """The value of `name` or `name.attribute` in the notebook.

    Raises:
        LookupError: there is none.
    """
    first, *attributes = what.split(".")
    value = names[first]
    for attribute in attributes:
        try:
            value = getattr(value, attribute)
        except AttributeError:
            raise LookupError(what) from None
    return value


def find_thing(names: Mapping[str, Any], what: str, arguments: Namespace) -> Thing:
    """The thing that is meant; `arguments` say how to serve it if it is files.

    Raises:
        UsageError: there is no such thing, or these arguments are not for it.
        AppError: it is the name of what cannot be served.
        StaticPathError: an option cannot work.
    """
    path = os.path.expandvars(os.path.expanduser(what))
    try:
        value = value_of(names, what)
    except LookupError:
        if os.path.exists(path):
            return _files(path, arguments)
        raise UsageError(
            f"{what!r} is neither a directory nor the name of an app in this notebook"
        ) from None
    if isinstance(value, os.PathLike):
        return _files(os.fspath(value), arguments)
    try:
        thing = _object(names, what, value)
    except AppError:
        if not os.path.exists(path):
            raise
        return _files(path, arguments)
    given = given_for_files(arguments)
    flags = [each.flags[0] for each in FILES if each.dest in given]
    if flags:
        raise UsageError(
            f"{', '.join(flags)}: for a directory or a file; {what!r} is an app, which has "
            "static_path_options"
        )
    return thing


def _object(names: Mapping[str, Any], what: str, value: Any) -> Thing:
    if isinstance(value, Server):
        name = value.name or what
        if isinstance(value, WebServer) and value.is_running:
            return Thing(name, value.app, value)
        return Thing(name, value.app, server_named(name))
    return Thing(what, _app(names, what, value), server_named(what))


def _app(names: Mapping[str, Any], what: str, value: Any) -> App:
    """An app of handlers; or of what a notebook would show, even if that can be called."""
    try:
        app = as_app(value)
    except AppError:
        if not is_rich(value):
            raise
        return _live(names, what)
    return _live(names, what) if app.call is value and is_rich(value) else app


def _live(names: Mapping[str, Any], what: str) -> App:
    """An app that shows an object as it is at each request."""

    def call(request: Request) -> object:
        if request.path != "/":  # a browser's favicon.ico; drawing may take long
            return {"status": 404, "body": "Not found\n"}
        try:
            return value_of(names, what)
        except LookupError:
            return {"status": 404, "body": f"{what} is no longer defined in the notebook\n"}

    call.__qualname__ = what  # which is what is shown of a server
    return App(call=call)


def _files(path: str, arguments: Namespace) -> Thing:
    full = os.path.abspath(path)
    name = os.path.basename(full) or full
    try:
        app = files_app(full, arguments)
    except StaticPathError as error:
        raise UsageError(str(error)) from None
    previous = _server_of(full)
    if server_named(name) not in (None, previous):  # of another thing
        name = full
    return Thing(name, app, previous)


def _server_of(path: str) -> WebServer | None:
    """The server that serves these files and nothing else, if one runs."""
    for server in list_servers():
        served = {prefix: each.path for prefix, each in server.app.static_paths.items()}
        only_files = server.app.call is None and served == {"/": path}
        if isinstance(server, WebServer) and only_files:
            return server
    return None
