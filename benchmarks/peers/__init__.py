"""The peers' programs: at 127.0.0.1, as far as each can do it: Hello world at /, files at
/static, a WebSocket at /echo that sends every message back."""
