"""The public names: a change of this list is a change for every user."""

from __future__ import annotations

import inspect
import re

import pytest

import httpuv_kernel
from httpuv_kernel import errors

FUNCTIONS = [
    "broadcast",
    "browser_url",
    "decode_uri",
    "decode_uri_component",
    "encode_uri",
    "encode_uri_component",
    "event_stream",
    "exclude_static_path",
    "interrupt",
    "ip_family",
    "later",
    "list_servers",
    "load_ipython_extension",
    "next_run_in",
    "progress",
    "random_port",
    "raw_to_base64",
    "run_now",
    "run_server",
    "run_static_server",
    "service",
    "service_async",
    "start_daemonized_server",
    "start_pipe_server",
    "start_server",
    "static_path",
    "static_path_options",
    "stop_all_servers",
    "stop_daemonized_server",
    "stop_server",
    "unload_ipython_extension",
    "with_private_loop",
]
CLASSES = [
    "EventFeed",
    "HTTPUV",
    "LogEntry",
    "PipeServer",
    "Request",
    "Response",
    "Server",
    "ServerEvent",
    "StaticPath",
    "StaticPathOptions",
    "WebServer",
    "WebSocket",
]
ERRORS = {
    "HttpuvError": (Exception,),
    "InvalidAddressError": (errors.HttpuvError, ValueError),
    "StartError": (errors.HttpuvError, OSError),
    "PortInUseError": (errors.StartError,),
    "PortPermissionError": (errors.StartError, PermissionError),
    "AddressNotAvailableError": (errors.StartError,),
    "AppError": (errors.HttpuvError, TypeError),
    "StaticPathError": (errors.HttpuvError, ValueError),
    "ResponseError": (errors.HttpuvError, TypeError),
    "NetworkError": (errors.HttpuvError, RuntimeError),
    "MainThreadError": (errors.HttpuvError, RuntimeError),
    "HandlerInterrupted": (errors.HttpuvError,),
}
# Beyond what the manual's signatures have, arguments are given by name.
POSITIONAL = {
    "start_server": ["host", "port", "app", "quiet"],
    "start_pipe_server": ["name", "mask", "app", "quiet"],
    "start_daemonized_server": ["host", "port", "app", "quiet"],
    "run_server": ["host", "port", "app"],
    "run_static_server": ["dir", "host", "port"],
    "service": ["timeout_ms"],
    "later": ["func", "delay"],
    "run_now": ["timeout", "all"],
    "browser_url": ["port", "path"],
}


def test_the_public_names() -> None:
    expected = sorted([*FUNCTIONS, *CLASSES, *ERRORS, "__version__"])
    assert sorted(httpuv_kernel.__all__) == expected
    assert len(set(httpuv_kernel.__all__)) == len(httpuv_kernel.__all__)


def test_star_import() -> None:
    names: dict[str, object] = {}
    exec("from httpuv_kernel import *", names)
    assert set(httpuv_kernel.__all__) <= set(names)


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES, *ERRORS])
def test_each_has_a_docstring(name: str) -> None:
    text = getattr(httpuv_kernel, name).__doc__
    assert text
    assert text.strip()
    assert not text.startswith(f"{name}(")  # what a dataclass writes by itself


@pytest.mark.parametrize("name", CLASSES)
def test_each_public_member_has_a_docstring(name: str) -> None:
    value = getattr(httpuv_kernel, name)
    for member, thing in vars(value).items():
        if not member.startswith("_") and (
            inspect.isfunction(thing) or isinstance(thing, property)
        ):
            assert inspect.getdoc(thing), f"{name}.{member}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_is_typed(name: str) -> None:
    signature = inspect.signature(getattr(httpuv_kernel, name))
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, parameter


@pytest.mark.parametrize("name", POSITIONAL)
def test_what_is_not_in_the_manual_is_keyword_only(name: str) -> None:
    parameters = inspect.signature(getattr(httpuv_kernel, name)).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == POSITIONAL[name]


def test_the_errors_tree() -> None:
    assert sorted(errors.__all__) == sorted(ERRORS)
    for name, bases in ERRORS.items():
        assert getattr(errors, name).__bases__ == bases, name


def test_the_errors_tree_in_the_docstring() -> None:
    """Each line of the tree: the class stands below its first base, the others in parentheses."""
    assert errors.__doc__ is not None
    parents: list[str] = []
    drawn = {}
    for line in errors.__doc__.splitlines():
        found = re.match(r"    ((?:│   |    )*)(├── |└── )?(\w+)(?: +\((\w+)\))?(?:  |$)", line)
        if found is None or found[3] not in ERRORS:
            continue
        depth = len(found[1]) // 4 + bool(found[2])
        parents[depth:] = [found[3]]
        drawn[found[3]] = (*parents[depth - 1 : depth], *filter(None, [found[4]]))
    real = {name: tuple(base.__name__ for base in bases) for name, bases in ERRORS.items()}
    assert drawn == real | {"HttpuvError": ()}


def test_the_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", httpuv_kernel.__version__)
