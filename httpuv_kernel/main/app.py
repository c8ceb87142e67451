"""The user's app: what it may be, and the only place from which user code is called.

Main side.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from ..errors import AppError
from ..static_paths import (
    StaticPath,
    StaticPathOptions,
    as_static_path,
    normalise_prefix,
    static_path_options,
)

__all__ = ["App", "as_app", "as_static_paths", "call_user", "user_traceback"]

_HANDLERS = ("call", "on_headers", "on_ws_open")
_KEYS = (*_HANDLERS, "static_paths", "static_path_options", "subprotocols")
# The manual's spellings, which a user who comes from R types first.
_MANUAL_KEYS = {
    "onHeaders": "on_headers",
    "onWSOpen": "on_ws_open",
    "staticPaths": "static_paths",
    "staticPathOptions": "static_path_options",
}


def call_user(function: Callable[..., Any], *arguments: object) -> Any:
    """Run user code. The interrupt guard knows this frame: below it, SIGINT raises."""
    return function(*arguments)


def user_traceback(error: BaseException) -> BaseException:
    """The error, its traceback cut to the frames of user code, if it has any."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code is not call_user.__code__:
        traceback = traceback.tb_next
    while traceback is not None and _is_ours(traceback):  # such as the wrapper of an awaitable
        traceback = traceback.tb_next
    if traceback is not None:
        error.__traceback__ = last = traceback
        if isinstance(error, KeyboardInterrupt):  # raised by our signal handler, the last frame
            while last.tb_next is not None and last.tb_next.tb_next is not None:
                last = last.tb_next
            last.tb_next = None
    return error


def _is_ours(traceback: TracebackType) -> bool:
    name = traceback.tb_frame.f_globals.get("__name__", "")
    return isinstance(name, str) and name.partition(".")[0] == __name__.partition(".")[0]


@dataclass(frozen=True)
class App:
    """An app with nothing left to guess."""

    call: Callable[..., Any] | None = None
    on_headers: Callable[..., Any] | None = None
    on_ws_open: Callable[..., Any] | None = None
    static_paths: Mapping[str, StaticPath] = field(default_factory=dict)
    static_path_options: StaticPathOptions = field(default_factory=static_path_options)
    subprotocols: tuple[str, ...] = ()


def as_app(app: object) -> App:
    """An App from a function (it is `call`), a mapping, or an object with handlers.

    Raises:
        AppError: it is none of these, has an unknown key, or a handler that cannot be called.
        StaticPathError: a static path or option that cannot work.
    """
    if isinstance(app, App):
        return app
    parts = _parts(app)
    for name in _HANDLERS:
        handler = parts.get(name)
        if handler is not None and not callable(handler):
            raise AppError(f"{name!r} of the app is not callable: {handler!r}")
    options = parts.pop("static_path_options", None) or static_path_options()
    if isinstance(options, Mapping):
        options = static_path_options(**options)
    if not isinstance(options, StaticPathOptions):
        raise AppError(f"'static_path_options' is a static_path_options(...), not {options!r}")
    paths = as_static_paths(parts.pop("static_paths", None) or {})
    subprotocols = parts.pop("subprotocols", ())
    if isinstance(subprotocols, str) or not all(isinstance(name, str) for name in subprotocols):
        raise AppError(f"'subprotocols' is a list of names, not {subprotocols!r}")
    parts["subprotocols"] = tuple(subprotocols)
    return App(**parts, static_paths=paths, static_path_options=options)


def as_static_paths(paths: object) -> dict[str, StaticPath]:
    """Static paths by their normalised prefix.

    Raises:
        AppError: not a mapping.
        StaticPathError: a path that cannot be served.
    """
    if not isinstance(paths, Mapping):
        raise AppError(f"'static_paths' maps URL paths to directories, not {paths!r}")
    return {normalise_prefix(name): as_static_path(path) for name, path in paths.items()}


def _parts(app: object) -> dict[str, Any]:
    if isinstance(app, Mapping):
        for key in app:
            if key not in _KEYS:
                raise AppError(_unknown_key(key))
        return {key: value for key, value in app.items() if value is not None}
    if isinstance(app, type):
        raise AppError(f"the app is a class; give an instance: {app.__name__}()")
    parts = {key: getattr(app, key) for key in _KEYS if getattr(app, key, None) is not None}
    if parts:
        return parts
    if callable(app):
        return {"call": app}
    raise AppError(
        "an app is a function, a mapping or an object with any of "
        f"{', '.join(_KEYS)}; {app!r} is none of these"
    )


def _unknown_key(key: object) -> str:
    close = difflib.get_close_matches(str(key), _KEYS, n=1, cutoff=0.5)
    nearest = _MANUAL_KEYS.get(str(key)) or (close[0] if close else None)
    hint = f"did you mean {nearest!r}?" if nearest else f"known are {', '.join(_KEYS)}"
    return f"the app has an unknown key {key!r}; {hint}"
