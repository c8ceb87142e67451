"""The main side: the user's app, its callbacks, and the servers as the user holds them.

Runs on the process's main thread, when the host is idle or inside `service()`, `run_now()` and
`run_server()`. It never touches a socket; it blocks on the network side only to start and stop a
server.

From the bridge inwards: `runtime` is where both sides meet, `loop` runs what `later` orders,
`interrupts` keeps Ctrl-C to the callback it is meant for, `exchange` is one request and its answer,
`request` and `response` are what the app gets and gives, `streaming` is a body in pieces,
`websocket` one socket, `app` the only module that calls user code; `server`, `static_server` and
`run` are what the user calls.
"""
