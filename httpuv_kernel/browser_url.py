"""The URL at which a browser reaches a server of this process: one table of environments.

Main side's ground. All but the last section are functions of a `Machine`. No network access, no
message to the browser; a strange environment only means fewer candidates.

Not to be known from inside, so that a token, `allowed_hosts` or `HTTPUV_KERNEL_URL` must help: the
public name of a JupyterHub without `public_url` and subdomains, the name that a reverse proxy or
Docker gives a Jupyter server, what Databricks and Deepnote send as Host.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from .addresses import ip_family, is_loopback, url_host

__all__ = ["Candidate", "browser_url", "candidates", "environment_hosts", "environment_origins"]

_COLAB = {"COLAB_RELEASE_TAG", "COLAB_BACKEND_VERSION", "COLAB_GPU"}
_RSERVER_URL = "/usr/lib/rstudio-server/bin/rserver-url"


class Source(Enum):
    """Where a URL comes from; the best first."""

    EXPLICIT = "argument"
    VARIABLE = "HTTPUV_KERNEL_URL"
    COLAB = "Colab"
    DATABRICKS = "Databricks"
    DEEPNOTE = "Deepnote"
    CODESPACES = "Codespaces"
    WORKBENCH = "Posit Workbench"
    VSCODE = "VSCODE_PROXY_URI"
    HUB = "JupyterHub"
    JUPYTER = "Jupyter server"
    PLAIN = "host and port"


class Candidate(NamedTuple):
    """A URL at which a browser may reach the server."""

    source: Source
    url: str
    """Absolute; or a path at the origin of the notebook's page, "/user/me/proxy/8080/". Of Colab it
    is "https://localhost:PORT/…", whose origin the page replaces by what
    `google.colab.kernel.proxyPort(PORT)` answers."""
    needs: str = ""
    """The package that the Jupyter server must have for it to work; "" for none."""

    @property
    def is_absolute(self) -> bool:
        """Whether it works as it is, also outside the notebook's page."""
        return self.source is not Source.COLAB and not self.url.startswith("/")


class Machine(NamedTuple):
    """What the table is filled from."""

    env: Mapping[str, str]
    jupyter: Callable[[], Mapping[str, Any]]
    """What the Jupyter server above this process wrote about itself; {} without one."""
    databricks: Callable[[], Mapping[str, Any]]
    """browserHostName, workspaceId, clusterId; {} when they cannot be had."""
    workbench_token: Callable[[int], str]
    """The path segment that stands for a port; "" when there is none."""


# A row counts where all its %(facts)s are known. Then {port} is left, and Workbench's {token}.
_CODESPACES = "%(CODESPACE_NAME)s-{port}.%(GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN)s"
_DRIVER = "/driver-proxy/o/%(databricks.workspaceId)s/%(databricks.clusterId)s/{port}/"
_TABLE = (
    (Source.VARIABLE, "%(HTTPUV_KERNEL_URL)s"),
    (Source.COLAB, "https://localhost:{port}/%(colab)s"),
    (Source.DATABRICKS, "https://%(databricks.browserHostName)s" + _DRIVER),
    (Source.DATABRICKS, _DRIVER),
    (Source.DEEPNOTE, "https://%(DEEPNOTE_PROJECT_ID)s.deepnoteproject.com/"),
    (Source.CODESPACES, f"https://{_CODESPACES}/"),
    (Source.WORKBENCH, "%(RS_SERVER_URL)s%(RS_SESSION_URL)s/p/{token}/"),
    (Source.VSCODE, "%(vscode)s"),
    (Source.HUB, "%(JUPYTERHUB_SERVICE_PREFIX)s/proxy/{port}/"),
    (Source.HUB, "%(JUPYTERHUB_PUBLIC_URL)s/proxy/{port}/"),
    (Source.JUPYTER, "%(jupyter.base_url)s/proxy/{port}/"),
    (Source.JUPYTER, "%(jupyter.url)s/proxy/{port}/"),
)
_NEEDS = dict.fromkeys((Source.HUB, Source.JUPYTER), "jupyter-server-proxy")


def _facts(machine: Machine) -> dict[str, str]:
    """The environment's variables and what else the table names, without a slash at the end."""
    env = {name: value for name, value in machine.env.items() if value}
    facts = dict(env)
    # Kaggle's images inherit Colab's variables.
    if _COLAB & env.keys() and "KAGGLE_KERNEL_RUN_TYPE" not in env:
        facts["colab"] = ""
    if "DATABRICKS_RUNTIME_VERSION" in env:
        facts |= {f"databricks.{name}": str(v) for name, v in machine.databricks().items() if v}
    proxy = env.get("VSCODE_PROXY_URI", "").replace("{{port}}", "{port}")
    # code-server fills in {{host}} in the browser only; its "./proxy/…" is below its own page.
    if "{port}" in proxy and "{{" not in proxy:
        facts["vscode"] = proxy.removeprefix(".")
    if "JUPYTERHUB_SERVICE_PREFIX" not in env:  # there the server's own URL is an inner one
        info = machine.jupyter()
        names = ("base_url",) if _is_local(info) else ("base_url", "url")
        facts |= {f"jupyter.{name}": str(info[name]) for name in names if name in info}
    return {name: value.rstrip("/") for name, value in facts.items()}


def _is_local(jupyter: Mapping[str, Any]) -> bool:
    """Whether a Jupyter server is used by browsers of its own machine, tunnels aside."""
    host = str(jupyter.get("hostname", "-"))
    return host in ("", "localhost") or (ip_family(host) > 0 and is_loopback(host))


def _templates(machine: Machine) -> list[tuple[Source, str]]:
    """The rows that count here and are the URL of something."""
    facts = _facts(machine)
    found = []
    for source, row in _TABLE:
        with suppress(KeyError):
            template = row % facts
            if _split(template):
                found.append((source, template))
    return found


def browser_url(
    port: int,
    path: str = "/",
    *,
    host: str = "127.0.0.1",
    url: str | Callable[[int], str] | None = None,
) -> str:
    """The best guess at an absolute URL of a path on a port of this machine. Any thread.

    In a notebook the page knows better: see `candidates`. Where only a path is known, as on a
    JupyterHub that does not tell its own name, this is the plain host and port.

    Args:
        port: the port that a server listens at.
        path: a path on it, percent-encoded.
        host: the host that it is bound to, an address or as it stands in a URL.
        url: the URL of "/", with `{port}` for the port, or a function that makes it of the port.
            `HTTPUV_KERNEL_URL` is such a template for the whole process:
            "https://hub.example/user/me/proxy/{port}/".
    """
    return next(c.url for c in candidates(port, path, host, url=url) if c.is_absolute)


def candidates(
    port: int,
    path: str = "/",
    host: str = "127.0.0.1",
    *,
    url: str | Callable[[int], str] | None = None,
    machine: Machine | None = None,
) -> list[Candidate]:
    """Where a browser may reach a path on a port of this machine, best first. Any thread.

    The plain host and port is the last; it is the first when all there is else is a Jupyter server
    of this very machine, since no proxy is needed then. Arguments as for `browser_url`.
    """
    machine = machine or here()
    found = [(source, _fill(source, base, port, machine)) for source, base in _templates(machine)]
    if url is not None:
        base = url(port) if callable(url) else url.replace("{port}", str(port))
        found.insert(0, (Source.EXPLICIT, base))
    is_only_jupyter = {source for source, _ in found} == {Source.JUPYTER}
    place = 0 if is_only_jupyter and _is_local(machine.jupyter()) else len(found)
    found.insert(place, (Source.PLAIN, f"http://{url_host(host)}:{port}/"))
    return [
        Candidate(source, base.rstrip("/") + "/" + path.lstrip("/"), _NEEDS.get(source, ""))
        for source, base in found
        if base
    ]


def environment_hosts(port: int | None = None, machine: Machine | None = None) -> tuple[str, ...]:
    """Names that a proxy of this environment may send as Host, for `allowed_hosts`. Any thread.

    ".example.org" stands for all below it. Without a port, `{port}` stands for it in them. None of
    them is a name that a stranger can point to this machine.
    """
    machine = machine or here()
    found = _templates(machine)
    names = [parts.hostname for parts in (_split(base) for _, base in found) if parts]
    for variable in ("JUPYTERHUB_PUBLIC_HUB_URL", "JUPYTERHUB_HOST", "BINDER_LAUNCH_HOST"):
        parts = _split(machine.env.get(variable, ""))
        if parts and parts.hostname:  # users' servers are here or below
            names += [parts.hostname, f".{parts.hostname}"]
    if Source.COLAB in dict(found):
        names += [".colab.dev", ".colab.googleusercontent.com"]
    return _distinct(names, port)


def environment_origins(port: int | None = None, machine: Machine | None = None) -> tuple[str, ...]:
    """Origins of this server's own pages, for `allowed_origins` where a proxy changes Host.

    Exact ones, with https only; in Codespaces also "http://localhost:PORT", which its proxy puts in
    the place of its own. Without a port, `{port}` stands for it in them. Any thread.
    """
    found = [t for t in _templates(machine or here()) if t[0] is not Source.COLAB]
    all_parts = [parts for parts in (_split(base) for _, base in found) if parts]
    names = [parts.netloc.lower() for parts in all_parts if parts.scheme == "https"]
    origins = [f"https://{name.rpartition('@')[2].removesuffix(':443')}" for name in names]
    if Source.CODESPACES in dict(found):
        origins.append("http://localhost:{port}")
    return _distinct(origins, port)


def _split(url: str) -> SplitResult | None:
    """The parts of an http URL or of a path at an origin; None for anything else."""
    if not (url.isascii() and url.isprintable()) or set(url) & set(" \"'<>\\"):
        return None
    try:
        parts = urlsplit(url)
        absolute = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return None
    return parts if absolute or (url.startswith("/") and not parts.netloc) else None


def _fill(source: Source, template: str, port: int, machine: Machine) -> str:
    """The template for a port; "" for one that the environment does not forward."""
    if source is Source.DEEPNOTE and port != 8080:
        return ""
    if source is Source.WORKBENCH:
        token = machine.workbench_token(port)
        return template.replace("{token}", token) if token else ""
    return template.replace("{port}", str(port))


def _distinct(texts: Iterable[str | None], port: int | None) -> tuple[str, ...]:
    filled = (t if port is None else t.replace("{port}", str(port)) for t in texts if t)
    return tuple(dict.fromkeys(filled))


def here() -> Machine:
    """This process and what surrounds it."""
    return Machine(os.environ, _jupyter_info, _databricks_context, _workbench_token)


def _jupyter_info() -> Mapping[str, Any]:
    try:
        folder = Path(import_module("jupyter_core.paths").jupyter_runtime_dir())
    except Exception:  # no Jupyter here, or no home directory
        return {}
    for pid in _ancestors():
        for kind in ("jpserver", "nbserver"):
            try:
                info = json.loads((folder / f"{kind}-{pid}.json").read_text("utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(info, dict):
                return info
    return {}


def _ancestors() -> Iterator[int]:
    """The processes above this one, the nearest first, as far as /proc tells."""
    pid = os.getppid()
    try:
        while pid > 0:  # in a container the server may be process 1
            yield pid
            stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
            pid = int(stat.rpartition(")")[2].split()[1])  # the name before may hold ")"
    except (OSError, ValueError, IndexError):
        return


def _databricks_context() -> Mapping[str, Any]:
    names = ("browserHostName", "workspaceId", "clusterId")
    try:
        context = import_module("dbruntime.databricks_repl_context").get_context()
        return {name: getattr(context, name, None) for name in names}
    except Exception:  # another version of the runtime: no candidate
        return {}


@lru_cache(maxsize=64)
def _workbench_token(port: int) -> str:
    try:
        run = subprocess.run([_RSERVER_URL, str(port)], capture_output=True, text=True, timeout=5)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    token = run.stdout.strip()
    return token if run.returncode == 0 and re.fullmatch(r"[A-Za-z0-9_\-]+", token) else ""
