"""The hosts: which program is this Python running in, and how are callbacks run when it is idle.

A host watches the bridge's descriptor on the main thread while nothing of the user's runs, and
calls the main side's `drain` when it is readable. It also knows where a callback's output belongs
and which asyncio loop a coroutine handler runs on. `find_host` looks; the modules are one host
each.

Imports neither side.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import threading

from .base import Host, Output
from .output import FloodGate, as_output

__all__ = ["FloodGate", "Host", "Output", "as_output", "find_host"]


def find_host() -> Host:
    """The host this process runs in, looked up anew at each call. Any thread."""
    from .asyncio_loop import AsyncioHost
    from .own_loop import TurnLoop
    from .repl import ReplHost, has_prompt
    from .script import ScriptHost

    if multiprocessing.parent_process() is not None:  # a fork still looks like its parent's kernel
        return ScriptHost()
    kernel = _running_kernel()
    if kernel is not None:
        from .kernel import KernelHost

        return KernelHost(kernel)
    shell = _prompting_shell()
    if shell is not None and sys.platform != "win32":
        from .terminal import TerminalHost

        return TerminalHost(shell)
    if threading.current_thread() is threading.main_thread():
        loop = asyncio._get_running_loop()
        # A coroutine handler runs in our own loop, and the prompt around it is the host.
        if loop is not None and not isinstance(loop, TurnLoop):
            return AsyncioHost(loop)
    if has_prompt():
        return ReplHost()
    return ScriptHost()


def _running_kernel() -> object | None:
    """The ipykernel of this process, when its loop runs."""
    kernel = getattr(_shell(), "kernel", None)
    loop = getattr(getattr(kernel, "io_loop", None), "asyncio_loop", None)
    return kernel if loop is not None and loop.is_running() else None


def _prompting_shell() -> object | None:
    """The IPython of this process, when it has prompt_toolkit's prompt."""
    shell = _shell()
    return shell if getattr(shell, "pt_app", None) is not None else None


def _shell() -> object | None:
    ipython = sys.modules.get("IPython")
    shell: object | None = ipython.get_ipython() if ipython is not None else None
    return shell
