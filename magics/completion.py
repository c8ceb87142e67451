"""What Tab offers in the line of a magic: its options, and names that exist now.

Main side.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any

from IPython.core.completer import SimpleCompletion

from httpuv_kernel import Server, list_servers
from httpuv_kernel.main.rich import is_rich
from httpuv_kernel.main.serving import Option

from .records import LEVELS, traits
from .running import call_names

__all__ = ["matcher"]

# The word that is being typed: what is quoted or escaped does not end it.
_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*(?:'|$)|"[^"]*(?:"|$))*$""")
# Also `server = %httpuv_serve`, and without % where automagic is on.
_MAGIC = re.compile(r"(?:^|=)\s*%{0,2}(?P<name>httpuv_\w+)\s+(?P<rest>.*)$")
_UNSAFE = re.compile(r"([^\w@%+:,./~-])")
_PARTS = ("call", "on_headers", "on_ws_open", "static_paths")

Words = Callable[[Any, str], Iterable[str]]
"""Of the shell and what is typed so far."""


def matcher(shell: Any, magics: Mapping[str, tuple[Option, ...]]) -> Callable[[Any], Any]:
    """A matcher for `IPCompleter.custom_matchers`, of IPython 8.6 and later.

    The older hook "complete_command" cannot keep Python's own names out, and knows no quotes.

    Args:
        shell: the shell whose names are offered.
        magics: the options of each magic.
    """

    def match(context: Any) -> dict[str, Any]:
        line = _MAGIC.search(context.text_until_cursor.rpartition("\n")[2])
        if line is None or line["name"] not in magics:
            return {"completions": []}
        name, before = line["name"], line["rest"]
        word = _WORD.search(before)
        raw = word[0] if word is not None else ""
        words = _split(before[: len(before) - len(raw)])
        found = _candidates(shell, name, magics[name], words, _unquote(raw))
        texts = [text for text in (_quote(each, raw) for each in found) if text.startswith(raw)]
        return {
            "completions": [SimpleCompletion(text=text, type="magic") for text in texts],
            "matched_fragment": raw,
            "suppress": True,
            "ordered": True,
        }

    match.matcher_api_version = 2  # type: ignore[attr-defined]
    match.matcher_identifier = "httpuv_kernel"  # type: ignore[attr-defined]
    match.matcher_priority = 1000  # type: ignore[attr-defined]
    return match


def _candidates(
    shell: Any, name: str, options: tuple[Option, ...], words: list[str], typed: str
) -> Iterable[str]:
    by_flag = {flag: each for each in options for flag in each.flags if flag.startswith("-")}
    last = by_flag.get(words[-1]) if words else None
    if last is not None and last.takes_value:
        return _VALUES.get(last.flags[0], _nothing)(shell, typed)
    if typed.startswith("-"):
        return [flag for each in options for flag in _flags(each)]
    if name == "httpuv_config" and words:
        return _values_of(words[0].partition("=")[0])
    return _PLACES.get(name, _nothing)(shell, typed)


def _flags(option: Option) -> list[str]:
    flags = [flag for flag in option.flags if flag.startswith("-")]
    if option.settings.get("action") is argparse.BooleanOptionalAction:
        flags += [f"--no-{flag[2:]}" for flag in flags]
    return flags


def _nothing(shell: Any, typed: str) -> list[str]:
    return []


def _hosts(shell: Any, typed: str) -> list[str]:
    return ["127.0.0.1", "0.0.0.0", "::1", "::", "localhost"]


def _names(shell: Any, typed: str) -> list[str]:
    return [server.name for server in list_servers() if server.name]


def _servers(shell: Any, typed: str) -> list[str]:
    ports = [str(getattr(server, "port", "")) for server in list_servers()]
    return list(dict.fromkeys([*call_names(), *filter(None, ports)]))


def _things(shell: Any, typed: str) -> list[str]:
    hidden: Mapping[str, Any] = shell.user_ns_hidden
    names = [
        name
        for name, value in shell.user_ns.items()
        if not name.startswith("_") and name not in hidden and _can_be_served(value)
    ]
    return sorted(names) + _paths(typed)


def _can_be_served(value: object) -> bool:
    """Whether it may be an app; runs no code of it."""
    if isinstance(value, FunctionType):
        return value.__module__ == "__main__"  # not what was imported
    if isinstance(value, dict):
        return any(part in value for part in _PARTS)
    if isinstance(value, (type, Server)):
        return isinstance(value, Server)
    return is_rich(value) or any(hasattr(type(value), part) for part in _PARTS)


def _paths(typed: str) -> list[str]:
    folder, start = os.path.split(typed)
    try:
        with os.scandir(os.path.expandvars(os.path.expanduser(folder)) or ".") as entries:
            found = [entry.name + ("/" if entry.is_dir() else "") for entry in entries]
    except OSError:
        return []
    names = [name for name in sorted(found) if start.startswith(".") or not name.startswith(".")]
    return [os.path.join(folder, name) for name in names]


def _settings(shell: Any, typed: str) -> list[str]:
    return sorted(traits())


def _values_of(name: str) -> list[str]:
    """What may stand behind `NAME =`."""
    trait = traits().get(name)
    return [] if trait is None else [str(value) for value in getattr(trait, "values", [])]


_PLACES: dict[str, Words] = {
    "httpuv_serve": _things,
    "httpuv_app": _names,
    "httpuv_stop": lambda shell, typed: [*_servers(shell, typed), "all"],
    "httpuv_open": _servers,
    "httpuv_embed": _servers,
    "httpuv_log": lambda shell, typed: [*_servers(shell, typed), *LEVELS],
    "httpuv_config": _settings,
}
_VALUES: dict[str, Words] = {"--host": _hosts, "--name": _names}


# -- quotes ----------------------------------------------------------------------------------------


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []


def _unquote(raw: str) -> str:
    """The word as the magic will see it, also when its quote is still open."""
    for end in ("", "'", '"'):
        try:
            return "".join(shlex.split(raw + end))
        except ValueError:
            continue
    return raw.rstrip("\\")


def _quote(word: str, raw: str) -> str:
    """The word with the quotes that its user has begun with."""
    if raw[:1] in ("'", '"'):
        return raw[0] + word
    return _UNSAFE.sub(r"\\\1", word)
