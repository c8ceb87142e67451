"""What is executed in the kernel. `.format`-ed with plain values, never with code."""

from __future__ import annotations

# Prints "pid executable".
PREPARE = """
import os, sys, time
print(os.getpid(), sys.executable)
"""

IMPORT = """
from httpuv_kernel import HTTPUV, start_server
def hello(req):
    return {{"status": 200, "headers": {{"Content-Type": "text/plain"}}, "body": "Hello world"}}
def echo(ws):
    ws.on_message(lambda binary, message: ws.send(message))
app = {{"call": hello, "on_ws_open": echo, "static_paths": {{"/static": {static!r}}}}}
HTTPUV.instance().isolation = {isolation!r}
"""

# Prints the port and how many seconds that took.
SERVE = """
begun = time.perf_counter()
server = start_server("127.0.0.1", 0, app)
print(server.port, time.perf_counter() - begun)
"""

# Prints how many seconds that took.
STOP = """
begun = time.perf_counter()
server.stop()
print(time.perf_counter() - begun)
"""

# An answer in pieces, and one to an upload; prints the ports.
SERVE_BODIES = """
piece = b"x" * 1000
def stream(req):
    return {{"headers": {{"Content-Type": "text/plain"}}, "body": (piece for _ in range(100))}}
def upload(req):
    return {{"headers": {{"Content-Type": "text/plain"}}, "body": str(len(req.body))}}
servers = [start_server("127.0.0.1", 0, each) for each in (stream, upload)]
print(*(each.port for each in servers))
"""

# A handler that computes for some milliseconds; prints the port.
SERVE_BUSY = """
import time
def busy(req):
    until = time.perf_counter() + {milliseconds} / 1000
    while time.perf_counter() < until:
        pass
    return {{"headers": {{"Content-Type": "text/plain"}}, "body": "done"}}
busy_server = start_server("127.0.0.1", 0, busy)
print(busy_server.port)
"""

STOP_BUSY = "busy_server.stop()"

# Bodies are read in pieces, as a user with a large one does; prints the port.
SERVE_LARGE = """
import pathlib
HTTPUV.instance().body_bytes = {limit}
HTTPUV.instance().connections = 2000
def large(req):
    if req.method == "GET":
        return {{"body": pathlib.Path({file!r})}}
    size = 0
    while piece := req["rook.input"].read(1 << 18):
        size += len(piece)
    return {{"headers": {{"Content-Type": "text/plain"}}, "body": str(size)}}
large_server = start_server("127.0.0.1", 0, large)
print(large_server.port)
"""

# A client that sends a word has a message of 1,000 bytes sent to all, in this way; prints the port.
SERVE_FAN_OUT = """
import json
from httpuv_kernel import broadcast
numbers = iter(range(1000))
message = ""
while len(message) < 1000:
    message += json.dumps({{"id": next(numbers), "x": 0.37 * len(message) ** 2}}) + ","
message = message[:1000]
def serve_fan_out():
    sockets = []
    def send_each(message):
        for ws in sockets:
            ws.send(message)
    ways = {{"broadcast": lambda message: broadcast(sockets, message), "a loop of send": send_each}}
    def join(ws):
        sockets.append(ws)
        ws.on_message(lambda binary, way: ways[way](message))
        ws.on_close(lambda: sockets.remove(ws))
    return start_server("127.0.0.1", 0, {{"on_ws_open": join}})
HTTPUV.instance().connections = 2 * {count}
print(serve_fan_out().port)
"""

# As many connections as there will be; prints the port.
SERVE_SOCKETS = """
HTTPUV.instance().connections = 2 * {count}
sockets_server = start_server("127.0.0.1", 0, {{"on_ws_open": echo}})
print(sockets_server.port)
"""

# What a cell may do while files are served; each says when it has begun and ends by itself.
BESIDE = {
    "pure Python": """
until = time.monotonic() + {seconds}
print("begun", flush=True)
while time.monotonic() < until:
    sum(i * i for i in range(1000))
""",
    # Half a second or so at a time, in which no other thread of the process runs.
    "C that holds the GIL": """
until = time.monotonic() + {seconds}
print("begun", flush=True)
time.sleep(0.2)  # it gets out
while time.monotonic() < until:
    sum(range(20_000_000))
""",
    "NumPy": """
import numpy
matrix = numpy.ones((400, 400))
until = time.monotonic() + {seconds}
print("begun", flush=True)
while time.monotonic() < until:
    matrix @ matrix
""",
}

# Prints, in the end, how often it could compute something in so many seconds.
COMPUTE = """
until, count = time.perf_counter() + {seconds}, 0
print("begun", flush=True)
while time.perf_counter() < until:
    sum(i * i for i in range(1000))
    count += 1
print(count)
"""
