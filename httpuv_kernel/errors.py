"""The exceptions that httpuv_kernel raises.

::

    HttpuvError
    ├── InvalidAddressError  (ValueError)       a host or port that cannot be one
    ├── StartError           (OSError)          the system refused to listen
    │   ├── PortInUseError
    │   ├── PortPermissionError (PermissionError)
    │   └── AddressNotAvailableError
    ├── AppError             (TypeError)        the app is none of the allowed kinds
    ├── StaticPathError      (ValueError)       a static path or option that cannot work
    ├── ResponseError        (TypeError)        a handler returned what cannot be sent
    ├── NetworkError         (RuntimeError)     the network side does not answer
    ├── MainThreadError      (RuntimeError)     called outside the main thread
    └── HandlerInterrupted                      a handler ended by an interrupt or by sys.exit()

Shared ground: imported by both sides, imports neither.
"""

from __future__ import annotations

__all__ = [
    "AddressNotAvailableError",
    "AppError",
    "HandlerInterrupted",
    "HttpuvError",
    "InvalidAddressError",
    "MainThreadError",
    "NetworkError",
    "PortInUseError",
    "PortPermissionError",
    "ResponseError",
    "StartError",
    "StaticPathError",
]


class HttpuvError(Exception):
    """Base of every error of this package."""


class InvalidAddressError(HttpuvError, ValueError):
    """A host or a port that cannot be one; nothing was tried."""


class StartError(HttpuvError, OSError):
    """The system refused to listen at an address; `errno` says why."""

    def __str__(self) -> str:
        return str(self.strerror or super().__str__())


class PortInUseError(StartError):
    """Another socket listens at this address; the text names our own server when it is one."""


class PortPermissionError(StartError, PermissionError):
    """The process may not listen at this port."""


class AddressNotAvailableError(StartError):
    """The host is not an address of this machine."""


class AppError(HttpuvError, TypeError):
    """The app is not a function, a mapping or an object with handlers, or a handler is wrong."""


class StaticPathError(HttpuvError, ValueError):
    """A static path or one of its options cannot work; the text names the argument."""


class ResponseError(HttpuvError, TypeError):
    """A handler returned something that is not a response; the client got a 500."""


class NetworkError(HttpuvError, RuntimeError):
    """The network side did not answer in time, or is gone."""


class MainThreadError(HttpuvError, RuntimeError):
    """A function that runs callbacks was called outside the main thread."""


class HandlerInterrupted(HttpuvError):
    """A handler was ended by an interrupt or by `sys.exit()`; its client got a 500."""
