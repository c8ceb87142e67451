"""Where a browser reaches a server: every environment as its variables and files really look."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import httpuv_kernel.browser_url  # noqa: F401  the name in the package is the function's
from httpuv_kernel import browser_url

module = sys.modules["httpuv_kernel.browser_url"]
Candidate, Machine, Source = module.Candidate, module.Machine, module.Source
JSP = "jupyter-server-proxy"
PLAIN = "http://127.0.0.1:8080/"
PLAIN_ROW = ("PLAIN", PLAIN)

CODESPACE = {
    "CODESPACES": "true",
    "CODESPACE_NAME": "super-space-train-7vg4",
    "GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN": "app.github.dev",
}
CODESPACE_HOST = "super-space-train-7vg4-8080.app.github.dev"
WORKBENCH = {"RS_SERVER_URL": "https://pwb.example/", "RS_SESSION_URL": "/s/eae053c9ab5a71168ee19/"}
DATABRICKS = {"DATABRICKS_RUNTIME_VERSION": "15.4"}
CLUSTER = {
    "browserHostName": "adb-1234.12.azuredatabricks.net",
    "workspaceId": "1234567890",
    "clusterId": "0923-164208-meows279",
}
COLAB = {"COLAB_RELEASE_TAG": "release-colab_20250722-060100_RC00", "COLAB_GPU": ""}
HUB = {
    "JUPYTERHUB_USER": "me",
    "JUPYTERHUB_HOST": "",
    "JUPYTERHUB_PUBLIC_URL": "",
    "JUPYTERHUB_PUBLIC_HUB_URL": "",
    "JUPYTERHUB_SERVICE_PREFIX": "/user/me/",
    "JUPYTERHUB_SERVICE_URL": "http://0.0.0.0:8888/user/me/",
}
PUBLIC_HUB = {
    **HUB,
    "JUPYTERHUB_PUBLIC_URL": "https://hub.example/user/me/",
    "JUPYTERHUB_PUBLIC_HUB_URL": "https://hub.example/",
}
BINDER = {
    **HUB,
    "BINDER_LAUNCH_HOST": "https://mybinder.org/",
    "JUPYTERHUB_SERVICE_PREFIX": "/user/jupyter-demo-x7k2/",
}


def jupyter(hostname: str = "localhost", base_url: str = "/", **other: Any) -> dict[str, Any]:
    """What jupyter_server writes into jpserver-PID.json."""
    return {
        "base_url": base_url,
        "hostname": hostname,
        "password": False,
        "pid": 4711,
        "port": 8888,
        "root_dir": "/home/me",
        "secure": False,
        "sock": "",
        "token": "5f0a",
        "url": f"http://{hostname}:8888{base_url}",
        "version": "2.17.0",
        **other,
    }


LOCAL = jupyter(base_url="/lab-base/")
REMOTE = jupyter("0.0.0.0", url="http://gpu-box:8888/")


def machine(
    env: Mapping[str, str] = {},
    server: Mapping[str, Any] = {},
    context: Mapping[str, Any] = {},
    token: str = "3d8ed0b9",
) -> Any:
    return Machine(env, lambda: server, lambda: context, lambda port: token)


def urls(*given: Any) -> list[tuple[str, str]]:
    found = module.candidates(8080, machine=machine(*given))
    return [(candidate.source.name, candidate.url) for candidate in found]


ENVIRONMENTS = {
    "nothing": (({},), []),
    "variable": (
        ({"HTTPUV_KERNEL_URL": "https://x.example/me/proxy/{port}"},),
        [("VARIABLE", "https://x.example/me/proxy/8080/")],
    ),
    "variable with a path": (({"HTTPUV_KERNEL_URL": "/p/{port}/"},), [("VARIABLE", "/p/8080/")]),
    "variable with one port": (({"HTTPUV_KERNEL_URL": "/p/"},), [("VARIABLE", "/p/")]),
    "Colab": ((COLAB,), [("COLAB", "https://localhost:8080/")]),
    "Kaggle is no Colab": (({**COLAB, "KAGGLE_KERNEL_RUN_TYPE": "Interactive"},), []),
    "Databricks": (
        (DATABRICKS, {}, CLUSTER),
        [
            (
                "DATABRICKS",
                "https://adb-1234.12.azuredatabricks.net"
                "/driver-proxy/o/1234567890/0923-164208-meows279/8080/",
            ),
            ("DATABRICKS", "/driver-proxy/o/1234567890/0923-164208-meows279/8080/"),
        ],
    ),
    "Databricks without its host": (
        (DATABRICKS, {}, {**CLUSTER, "browserHostName": None}),
        [("DATABRICKS", "/driver-proxy/o/1234567890/0923-164208-meows279/8080/")],
    ),
    "Databricks, another version": ((DATABRICKS, {}, {}), []),
    "Deepnote": (
        ({"DEEPNOTE_PROJECT_ID": "aa7c-42d1"},),
        [("DEEPNOTE", "https://aa7c-42d1.deepnoteproject.com/")],
    ),
    "Codespaces": ((CODESPACE,), [("CODESPACES", f"https://{CODESPACE_HOST}/")]),
    "Workbench": (
        (WORKBENCH,),
        [("WORKBENCH", "https://pwb.example/s/eae053c9ab5a71168ee19/p/3d8ed0b9/")],
    ),
    "Workbench without its tool": ((WORKBENCH, {}, {}, ""), []),
    "code-server by path": (
        ({"VSCODE_PROXY_URI": "https://code.example/proxy/{{port}}"},),
        [("VSCODE", "https://code.example/proxy/8080/")],
    ),
    "code-server by name": (
        ({"VSCODE_PROXY_URI": "https://{{port}}.kyle.dev"},),
        [("VSCODE", "https://8080.kyle.dev/")],
    ),
    "code-server, relative": (
        ({"VSCODE_PROXY_URI": "./proxy/{{port}}"},),
        [("VSCODE", "/proxy/8080/")],
    ),
    "code-server, its own host": (({"VSCODE_PROXY_URI": "https://{{port}}-{{host}}"},), []),
    "code-server without a port": (({"VSCODE_PROXY_URI": "https://code.example/"},), []),
    "hub": ((HUB, REMOTE), [("HUB", "/user/me/proxy/8080/")]),
    "hub that knows its name": (
        (PUBLIC_HUB,),
        [
            ("HUB", "/user/me/proxy/8080/"),
            ("HUB", "https://hub.example/user/me/proxy/8080/"),
        ],
    ),
    "Binder": ((BINDER, REMOTE), [("HUB", "/user/jupyter-demo-x7k2/proxy/8080/")]),
    "remote Jupyter": (
        ({}, REMOTE),
        [("JUPYTER", "/proxy/8080/"), ("JUPYTER", "http://gpu-box:8888/proxy/8080/")],
    ),
    "Jupyter on a Unix socket": (
        ({}, jupyter("%2Ftmp%2Fs", "/b/", url="http+unix://%2Ftmp%2Fs/b/")),
        [("JUPYTER", "/b/proxy/8080/")],
    ),
    "Jupyter's file without what is needed": (({}, {"hostname": "gpu-box"}), []),
    "code-server beside a local Jupyter": (
        ({"VSCODE_PROXY_URI": "https://code.example/proxy/{{port}}/"}, LOCAL),
        [("VSCODE", "https://code.example/proxy/8080/"), ("JUPYTER", "/lab-base/proxy/8080/")],
    ),
    "empty variables": ((dict.fromkeys([*WORKBENCH, *CODESPACE, "HTTPUV_KERNEL_URL"], ""),), []),
}


@pytest.mark.parametrize(("given", "found"), ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_an_environment(given: tuple[Any, ...], found: list[tuple[str, str]]) -> None:
    assert urls(*given) == [*found, PLAIN_ROW]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", ""])
def test_below_a_jupyter_server_of_this_machine_no_proxy_is_needed(host: str) -> None:
    assert urls({}, jupyter(host, "/lab-base/")) == [
        PLAIN_ROW,
        ("JUPYTER", "/lab-base/proxy/8080/"),
    ]


def test_the_best_is_first() -> None:
    everything = {**BINDER, **WORKBENCH, **CODESPACE, **COLAB, **DATABRICKS}
    everything |= {"DEEPNOTE_PROJECT_ID": "aa7c", "HTTPUV_KERNEL_URL": "https://x.example/"}
    everything |= {"VSCODE_PROXY_URI": "https://code.example/proxy/{{port}}"}
    found = module.candidates(8080, url="/mine/", machine=machine(everything, REMOTE, CLUSTER))
    order = [source for source in Source if source is not Source.JUPYTER]  # not below a hub
    assert list(dict.fromkeys(candidate.source for candidate in found)) == order


def test_deepnote_forwards_one_port() -> None:
    there = machine({"DEEPNOTE_PROJECT_ID": "aa7c"})
    assert [c.source for c in module.candidates(8081, machine=there)] == [Source.PLAIN]


@pytest.mark.parametrize(
    ("env", "server", "needs"),
    [(HUB, {}, [JSP, ""]), ({}, LOCAL, ["", JSP]), (CODESPACE, {}, ["", ""])],
    ids=["hub", "local", "codespaces"],
)
def test_what_the_jupyter_server_must_have(
    env: dict[str, str], server: dict[str, Any], needs: list[str]
) -> None:
    assert [c.needs for c in module.candidates(8080, machine=machine(env, server))] == needs


STRANGE = [
    "",
    "  ",
    "hub.example/{port}/",
    "javascript:alert({port})",
    "//evil.example/",
    "http://",
]
STRANGE += ["https://[::1/{port}", "https://a b/{port}", "https://a/\n{port}", 'https://a/"{port}']
STRANGE += ["https://\udcff/{port}", "ftp://x.example/{port}", "{port}", "%(HOME)s{port}"]
NAMES = ["HTTPUV_KERNEL_URL", "VSCODE_PROXY_URI", "JUPYTERHUB_SERVICE_PREFIX", "RS_SERVER_URL"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", STRANGE, ids=ascii)
def test_a_value_that_is_no_url_does_not_count(name: str, value: str) -> None:
    there = machine({name: value, "RS_SESSION_URL": "/s/1/"})
    assert [c.url for c in module.candidates(8080, machine=there)] == [PLAIN]
    module.environment_hosts(8080, there)
    module.environment_origins(8080, there)


@pytest.mark.parametrize(
    ("path", "end"), [("/", "/"), ("", "/"), ("/token/", "/token/"), ("a/b?c=d#e", "/a/b?c=d#e")]
)
@pytest.mark.parametrize(
    "env", [{}, CODESPACE, HUB, COLAB], ids=["plain", "whole", "path", "colab"]
)
def test_a_path_is_below(env: dict[str, str], path: str, end: str) -> None:
    root, below = (module.candidates(8080, p, machine=machine(env)) for p in ("/", path))
    assert [c.url for c in below] == [c.url[:-1] + end for c in root]


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
        ("192.0.2.7", "192.0.2.7"),
        ("localhost", "localhost"),
    ],
)
def test_a_bound_address_becomes_one_that_a_browser_can_use(host: str, shown: str) -> None:
    (plain,) = module.candidates(8080, host=host, machine=machine())
    assert plain.url == f"http://{shown}:8080/"


# -- the string ------------------------------------------------------------------------------------


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *given: monkeypatch.setattr(module, "here", lambda: machine(*given))


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (({},), PLAIN),
        (({}, LOCAL), PLAIN),
        (({}, REMOTE), "http://gpu-box:8888/proxy/8080/"),
        ((HUB, REMOTE), PLAIN),
        ((PUBLIC_HUB, REMOTE), "https://hub.example/user/me/proxy/8080/"),
        ((COLAB,), PLAIN),
        ((CODESPACE,), f"https://{CODESPACE_HOST}/"),
    ],
    ids=["plain", "local", "remote", "hub", "hub that knows its name", "Colab", "Codespaces"],
)
def test_the_best_that_works_outside_the_page(there: Any, given: Any, url: str) -> None:
    there(*given)
    assert browser_url(8080) == url


@pytest.mark.parametrize(
    "url", ["https://x.example/p/{port}", lambda port: f"https://x.example/p/{port}/"]
)
def test_an_argument_comes_before_everything(there: Any, url: Any) -> None:
    there({"HTTPUV_KERNEL_URL": "https://other.example/"})
    assert browser_url(8080, "/a", url=url) == "https://x.example/p/8080/a"


# -- what the gate should accept -------------------------------------------------------------------

GATE = {
    "nothing": (({},), (), ()),
    "variable": (
        ({"HTTPUV_KERNEL_URL": "https://me:pw@X.example:443/p/{port}/"},),
        ("x.example",),
        ("https://x.example",),
    ),
    "variable with http": (({"HTTPUV_KERNEL_URL": "http://lab:81/"},), ("lab",), ()),
    "Colab": ((COLAB,), ("localhost", ".colab.dev", ".colab.googleusercontent.com"), ()),
    "Databricks": (
        (DATABRICKS, {}, CLUSTER),
        ("adb-1234.12.azuredatabricks.net",),
        ("https://adb-1234.12.azuredatabricks.net",),
    ),
    "Codespaces": (
        (CODESPACE,),
        (CODESPACE_HOST,),
        (f"https://{CODESPACE_HOST}", "http://localhost:8080"),
    ),
    "Workbench": ((WORKBENCH,), ("pwb.example",), ("https://pwb.example",)),
    "code-server by name": (
        ({"VSCODE_PROXY_URI": "https://{{port}}.kyle.dev"},),
        ("8080.kyle.dev",),
        ("https://8080.kyle.dev",),
    ),
    "hub": ((HUB, REMOTE), (), ()),
    "hub that knows its name": (
        (PUBLIC_HUB,),
        ("hub.example", ".hub.example"),
        ("https://hub.example",),
    ),
    "hub with subdomains": (
        ({**HUB, "JUPYTERHUB_HOST": "https://hub.example"},),
        ("hub.example", ".hub.example"),
        (),
    ),
    "Binder": ((BINDER,), ("mybinder.org", ".mybinder.org"), ()),
    "remote Jupyter": (({}, REMOTE), ("gpu-box",), ()),
    "local Jupyter": (({}, LOCAL), (), ()),
}


@pytest.mark.parametrize(("given", "hosts", "origins"), GATE.values(), ids=GATE)
def test_hosts_and_origins(given: Any, hosts: tuple[str, ...], origins: tuple[str, ...]) -> None:
    assert module.environment_hosts(8080, machine(*given)) == hosts
    assert module.environment_origins(8080, machine(*given)) == origins


def test_before_the_port_is_known_it_is_left_open() -> None:
    name = "super-space-train-7vg4-{port}.app.github.dev"
    assert module.environment_hosts(machine=machine(CODESPACE)) == (name,)
    origins = (f"https://{name}", "http://localhost:{port}")
    assert module.environment_origins(machine=machine(CODESPACE)) == origins


# -- the real machine ------------------------------------------------------------------------------


@pytest.fixture
def runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [*HUB, *WORKBENCH, *CODESPACE, *COLAB, *DATABRICKS, *NAMES, "DEEPNOTE_PROJECT_ID"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("kind", ["jpserver", "nbserver"])
def test_the_file_of_the_jupyter_server_that_is_our_parent(runtime_dir: Path, kind: str) -> None:
    (runtime_dir / f"{kind}-{os.getppid()}.json").write_text(json.dumps(REMOTE))
    assert browser_url(8080) == "http://gpu-box:8888/proxy/8080/"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="grandparents need /proc")
def test_a_shell_may_stand_between(runtime_dir: Path) -> None:
    (runtime_dir / f"jpserver-{os.getpid()}.json").write_text(json.dumps(REMOTE))
    code = "from httpuv_kernel import browser_url; print(browser_url(8080))"
    command = ["sh", "-c", '"$0" -c "$1"; true', sys.executable, code]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout.strip() == "http://gpu-box:8888/proxy/8080/"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"base_url": 7}', "\udcff"], ids=ascii)
def test_a_file_that_says_nothing(runtime_dir: Path, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    (runtime_dir / f"jpserver-{os.getppid()}.json").write_bytes(data)
    assert browser_url(8080) == PLAIN


def test_the_file_of_another_jupyter_server(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runtime_dir / f"jpserver-{os.getpid()}.json").write_text(json.dumps(REMOTE))
    assert browser_url(8080) == PLAIN
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(runtime_dir / "missing"))
    assert browser_url(8080) == PLAIN


@pytest.mark.parametrize(
    ("script", "url"),
    [
        ("printf %s 3d8e$1", "https://pwb.example/s/eae053c9ab5a71168ee19/p/3d8e8080/"),
        ("echo 3d8e; exit 1", PLAIN),
        ("echo 'no such session'", PLAIN),
        (None, PLAIN),
    ],
    ids=["answers", "fails", "says something else", "is not there"],
)
def test_workbench_s_tool(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, url: str
) -> None:
    tool = runtime_dir / "rserver-url"
    monkeypatch.setattr(module, "_RSERVER_URL", str(tool))
    if script is not None:
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(stat.S_IRWXU)
    for name, value in WORKBENCH.items():
        monkeypatch.setenv(name, value)
    module._workbench_token.cache_clear()
    assert [browser_url(8080), browser_url(8080)] == [url, url]
    module._workbench_token.cache_clear()


def _fails() -> Any:
    raise RuntimeError("no notebook")


@pytest.mark.parametrize(
    ("get_context", "host"),
    [
        (lambda: SimpleNamespace(**CLUSTER), "adb-1234.12.azuredatabricks.net"),
        (lambda: None, "127.0.0.1:8080"),
        (_fails, "127.0.0.1:8080"),
    ],
    ids=["answers", "knows nothing", "fails"],
)
def test_the_context_of_databricks(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, get_context: Any, host: str
) -> None:
    context = ModuleType("dbruntime.databricks_repl_context")
    context.get_context = get_context  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dbruntime", ModuleType("dbruntime"))
    monkeypatch.setitem(sys.modules, context.__name__, context)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "15.4")
    assert browser_url(8080).split("/")[2] == host


def test_nothing_is_asked_of_the_network(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("getaddrinfo", "gethostbyname", "getfqdn", "create_connection"):
        monkeypatch.setattr(socket, name, _fails)
    for name, value in {**PUBLIC_HUB, **CODESPACE, **DATABRICKS}.items():
        monkeypatch.setenv(name, value)
    assert module.candidates(8080) and module.environment_hosts()  # noqa: PT018
