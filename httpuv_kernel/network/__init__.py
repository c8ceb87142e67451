"""The network side: sockets, HTTP parsing, static files, timeouts and limits.

Runs on one daemon thread, `httpuv-io`, that hosts one Tornado IOLoop. It never calls user code and
never touches an object of the main side: what it learns and tells goes over the bridge as plain
values. It imports nothing of `main`, `hosts`, IPython or traitlets, so that it can run in a process
of its own.

From a socket inwards: `listener` accepts, `http1` is one connection, `framing` decides about a
message, `gate` about a Host, `body` collects what a client sends, `files` opens what is on disk,
and `loop` runs them all and talks with the bridge.
"""
