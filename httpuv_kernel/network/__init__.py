"""The network side: sockets, HTTP parsing, static files, timeouts and limits.

Runs on one daemon thread, `httpuv-io`, that hosts one Tornado IOLoop. It never calls user code and
never touches an object of the main side: what it learns and tells goes over the bridge as plain
values. It imports nothing of `main`, `hosts`, IPython or traitlets, so that it can run in a process
of its own.

From a socket inwards: `listener` accepts and `gate` says who may ask. `http1` is one connection,
`reading` its requests (`body` collects theirs), `writing` its responses (`sources` are bodies read
here), `exchange` one of each, `framing` the decisions about a message. `static` answers from disk
(`files`, `conditional`, `byteranges`, `pages`), `handshake` and `websocket` are what a connection
may become, and `loop` runs them all and talks with the bridge.
"""
