"""Which URL paths are served from disk, and how: the manual's staticPath and staticPathOptions.

`StaticPath` and `StaticPathOptions` are what a user writes; None in a StaticPath inherits from the
app's options. `StaticTable` is what the network side looks requests up in: immutable, replaced
whole, made of plain values (`to_plain`, `from_plain`) because it crosses the bridge.

Shared ground: imported by both sides, imports neither.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple, TypeAlias

from .errors import StaticPathError
from .fields import CONNECTION_FIELDS, HeaderInput, encode_field, field_pairs, response_head

__all__ = [
    "StaticPath",
    "StaticPathOptions",
    "StaticTable",
    "as_static_path",
    "exclude_static_path",
    "static_path",
    "static_path_options",
]

_VALIDATION = re.compile(r'\s*"([^"]+)"\s*==?\s*"([^"]*)"\s*')
_CHARSET = re.compile(r"[A-Za-z0-9!#$%&'+^_`{}~-]*")

Validation: TypeAlias = "str | Mapping[str, str]"
FollowSymlinks: TypeAlias = Literal[True, False, "inside"]


@dataclass(frozen=True, kw_only=True)
class StaticPathOptions:
    """How files are served where a StaticPath does not say otherwise (manual: staticPathOptions).

    Attributes:
        indexhtml: a directory answers with its index.html.
        fallthrough: a file that does not exist is asked of the app's `call`; False gives 404.
        html_charset: the charset of text/html; "" for none.
        headers: extra response headers, a mapping or pairs.
        validation: `'"Header-Name" == "value"'` or a mapping of one header: requests without it
            get 403. "" or an empty mapping: no check.
        exclude: not served from disk (see `exclude_static_path`).
        listing: a directory without an index answers with a page that lists it.
        hidden: names that begin with a dot are served; `.well-known` always is.
        follow_symlinks: "inside" follows links that stay below the path, True follows all (whoever
            can write below the path can then publish any file), False none.
        cors: pages of any origin may read the files, ranges included.
        cross_origin_isolated: COOP and COEP headers, which SharedArrayBuffer needs.
        sandbox: pages run in an origin of their own; for files that are not trusted.
        spa: a navigation to what does not exist gets the index of the path.
    """

    indexhtml: bool = True
    fallthrough: bool = False
    html_charset: str = "utf-8"
    headers: HeaderInput | None = field(default_factory=dict)
    validation: Validation = ""
    exclude: bool = False
    listing: bool = False
    hidden: bool = False
    follow_symlinks: FollowSymlinks = "inside"
    cors: bool = False
    cross_origin_isolated: bool = False
    sandbox: bool = False
    spa: bool = False

    def __post_init__(self) -> None:
        _keep_headers(self)
        _check_options(self)


@dataclass(frozen=True)
class StaticPath:
    """A file or directory to serve; every option that is None inherits (manual: staticPath).

    Raises:
        StaticPathError: the path does not exist, or an option cannot work.
    """

    path: str
    indexhtml: bool | None = None
    fallthrough: bool | None = None
    html_charset: str | None = None
    headers: HeaderInput | None = None
    validation: Validation | None = None
    _: KW_ONLY
    exclude: bool = False
    listing: bool | None = None
    hidden: bool | None = None
    follow_symlinks: FollowSymlinks | None = None
    cors: bool | None = None
    cross_origin_isolated: bool | None = None
    sandbox: bool | None = None
    spa: bool | None = None

    def __post_init__(self) -> None:
        _keep_headers(self)
        _check_options(self)
        if not self.exclude:
            object.__setattr__(self, "path", _existing_path(self.path))

    def __repr__(self) -> str:
        if self.exclude:
            return "exclude_static_path()"
        options = [
            f", {item.name}={getattr(self, item.name)!r}"
            for item in fields(self)[1:]
            if getattr(self, item.name) is not None and item.name != "exclude"
        ]
        return f"static_path({self.path!r}{''.join(options)})"


def static_path(
    path: str | os.PathLike[str],
    indexhtml: bool | None = None,
    fallthrough: bool | None = None,
    html_charset: str | None = None,
    headers: HeaderInput | None = None,
    validation: Validation | None = None,
    **options: Any,
) -> StaticPath:
    """A path on disk with options of its own; None inherits the app's `static_path_options`.

    The other options of `StaticPathOptions` (`listing`, `hidden`, `follow_symlinks`, `cors`,
    `cross_origin_isolated`, `sandbox`, `spa`) are given by name.

    Raises:
        StaticPathError: the path does not exist, or an option cannot work.
    """
    _check_names(options)
    return StaticPath(
        _existing_path(path), indexhtml, fallthrough, html_charset, headers, validation, **options
    )


def exclude_static_path() -> StaticPath:
    """Leaves a URL path below a static path to the app's handlers."""
    return StaticPath("", exclude=True)


def static_path_options(
    indexhtml: bool = True,
    fallthrough: bool = False,
    html_charset: str = "utf-8",
    headers: HeaderInput | None = None,
    validation: Validation = "",
    exclude: bool = False,
    **options: Any,
) -> StaticPathOptions:
    """The options that static paths inherit, with the manual's defaults; see `StaticPathOptions`.

    Raises:
        StaticPathError: an option that cannot work.
    """
    _check_names(options)
    return StaticPathOptions(
        indexhtml=indexhtml,
        fallthrough=fallthrough,
        html_charset=html_charset,
        headers=headers or {},
        validation=validation,
        exclude=exclude,
        **options,
    )


def as_static_path(value: object) -> StaticPath:
    """A StaticPath from what a user may write in `static_paths`.

    Raises:
        StaticPathError: neither a StaticPath nor a path that exists.
    """
    if isinstance(value, StaticPath):
        return value
    if isinstance(value, (str, os.PathLike)):
        return StaticPath(os.fspath(value))
    raise StaticPathError(f"a static path is a path or a static_path(...), not {value!r}")


def normalise_prefix(name: str) -> str:
    """The URL path of a static path as "/a/b"; "/" for the root ("3", "4/", "/2/" are all
    right).
    """
    if not isinstance(name, str):
        raise StaticPathError(f"the name of a static path is a URL path, not {name!r}")
    segments = [segment for segment in name.split("/") if segment]
    if any(segment in (".", "..") for segment in segments):
        raise StaticPathError(f"the name of a static path has no '.' or '..': {name!r}")
    return "/" + "/".join(segments)


def _existing_path(path: str | os.PathLike[str]) -> str:
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise StaticPathError(f"path is a file or directory, not {path!r}")
    absolute = os.path.abspath(os.path.expanduser(os.fspath(path)))
    if not os.path.exists(absolute):
        raise StaticPathError(f"path does not exist: {absolute!r}")
    return absolute


_FLAGS = (
    "indexhtml",
    "fallthrough",
    "exclude",
    "listing",
    "hidden",
    "cors",
    "cross_origin_isolated",
    "sandbox",
    "spa",
)


def _check_names(options: Mapping[str, object]) -> None:
    known = [item.name for item in fields(StaticPathOptions)]
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise StaticPathError(f"a static path has no option {name!r}; {hint}")


def _keep_headers(options: StaticPath | StaticPathOptions) -> None:
    """Pairs that can be gone through once only are wanted more often; None is none."""
    headers = options.headers
    if headers is None and isinstance(options, StaticPathOptions):
        object.__setattr__(options, "headers", {})
    if hasattr(headers, "__next__"):
        object.__setattr__(options, "headers", tuple(headers))  # type: ignore[arg-type]


def _check_options(options: StaticPath | StaticPathOptions) -> None:
    inherits = isinstance(options, StaticPath)
    for name in _FLAGS:
        value = getattr(options, name)
        if not (isinstance(value, bool) or (value is None and inherits)):
            raise StaticPathError(f"{name} is True or False, not {value!r}")
    links = options.follow_symlinks
    if not (isinstance(links, bool) or links == "inside" or (links is None and inherits)):
        raise StaticPathError(f"follow_symlinks is 'inside', True or False, not {links!r}")
    charset = options.html_charset
    if charset is not None and not (isinstance(charset, str) and _CHARSET.fullmatch(charset)):
        raise StaticPathError(f"html_charset is the name of a charset or '', not {charset!r}")
    try:
        response_head(200, options.headers, None)
    except (TypeError, ValueError) as error:
        raise StaticPathError(f"headers: {error}") from error
    _parse_validation(options.validation)


def _parse_validation(validation: object) -> tuple[str, str] | None:
    """The header name, lower-case, and the value it must have."""
    if validation is None or (isinstance(validation, (str, Mapping)) and not validation):
        return None
    match = _VALIDATION.fullmatch(validation) if isinstance(validation, str) else None
    if match is not None:
        pairs = [(match[1], match[2])]
    else:
        pairs = list(validation.items()) if isinstance(validation, Mapping) else []
    try:
        ((name, value),) = pairs
        if not isinstance(value, str):
            raise TypeError
        name_bytes, _ = encode_field(name, value)
    except (TypeError, ValueError):
        raise StaticPathError(
            """validation is written '"Header-Name" == "value"', or a mapping of one header name """
            f"to its value, not {validation!r}"
        ) from None
    return name_bytes.decode().lower(), value


class StaticRule(NamedTuple):
    """A static path with nothing left to inherit, of plain values only."""

    path: str
    exclude: bool
    indexhtml: bool
    fallthrough: bool
    html_charset: str
    headers: tuple[tuple[bytes, bytes], ...]
    validation: tuple[str, str] | None
    listing: bool
    hidden: bool
    follow_symlinks: FollowSymlinks
    cors: bool
    spa: bool


# A page in a sandbox may do what a report does, in an origin that has nothing.
_SANDBOX = "sandbox allow-scripts allow-popups allow-forms allow-downloads allow-modals"
_EXPOSED = "Content-Range, Content-Length, Content-Encoding, Accept-Ranges, ETag, Last-Modified"


def _option_headers(options: StaticPathOptions) -> list[tuple[str, str]]:
    """The headers that options stand for."""
    headers = []
    if options.cors:
        headers.append(("Access-Control-Allow-Origin", "*"))
        headers.append(("Access-Control-Expose-Headers", _EXPOSED))
        headers.append(("Cross-Origin-Resource-Policy", "cross-origin"))
    if options.cross_origin_isolated:
        headers.append(("Cross-Origin-Opener-Policy", "same-origin"))
        headers.append(("Cross-Origin-Embedder-Policy", "require-corp"))
    if options.sandbox:
        headers.append(("Content-Security-Policy", _SANDBOX))
    return headers


def _rule(path: StaticPath, options: StaticPathOptions) -> StaticRule:
    given = {
        item.name: getattr(path, item.name)
        for item in fields(options)
        if getattr(path, item.name) is not None and item.name != "exclude"
    }
    merged = replace(options, **given)
    headers = [encode_field(*pair) for pair in field_pairs(merged.headers or ())]
    headers = [pair for pair in headers if pair[0].lower() not in CONNECTION_FIELDS]
    own = {name.lower() for name, _ in headers}
    headers += [
        pair
        for pair in (encode_field(*each) for each in _option_headers(merged))
        if pair[0].lower() not in own  # what the user wrote wins
    ]
    return StaticRule(
        path.path,
        path.exclude or merged.exclude,
        merged.indexhtml,
        merged.fallthrough,
        merged.html_charset,
        tuple(headers),
        _parse_validation(merged.validation),
        merged.listing,
        merged.hidden,
        merged.follow_symlinks,
        merged.cors,
        merged.spa,
    )


class StaticTable:
    """Looks up which rule serves a URL path. Immutable."""

    __slots__ = ("_rules", "has_paths")

    def __init__(self, rules: Mapping[str, StaticRule]) -> None:
        self._rules = dict(rules)
        self.has_paths = bool(self._rules)

    @classmethod
    def build(cls, paths: Mapping[str, StaticPath], options: StaticPathOptions) -> StaticTable:
        """A table of normalised prefixes; nothing is left to inherit."""
        return cls({prefix: _rule(path, options) for prefix, path in paths.items()})

    def to_plain(self) -> tuple[Any, ...]:
        """The table as plain values."""
        return tuple((prefix, tuple(rule)) for prefix, rule in self._rules.items())

    @classmethod
    def from_plain(cls, plain: tuple[Any, ...]) -> StaticTable:
        """The table that `to_plain` gave."""
        return cls({prefix: StaticRule(*rule) for prefix, rule in plain})

    def match(self, path: str) -> tuple[StaticRule, str] | None:
        """The rule of the longest prefix of whole segments, and the rest of the path.

        `path` is decoded; the rest begins with "/" or is empty.
        """
        prefix = path.rstrip("/") or "/"
        while prefix != "/":
            rule = self._rules.get(prefix)
            if rule is not None:
                return rule, path[len(prefix) :]
            prefix = prefix.rpartition("/")[0] or "/"
        rule = self._rules.get("/")
        return None if rule is None else (rule, path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)
