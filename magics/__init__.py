"""The `%httpuv_*` magics: they parse a line, call the public API and display what it returns.

Installed as `httpuv_kernel.magics`. Main side; loaded by `%load_ext httpuv_kernel`.
"""
