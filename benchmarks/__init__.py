"""`make bench`: httpuv_kernel beside its peers, in one run, as ratios.

::

    machine.py    cores, limits and versions of this machine
    kernel.py     a real ipykernel to measure in       cells.py   what runs in it
    servers.py    starts and stops the peers           peers/     the peers' programs
    load.py       wrk and raw clients               websocket_load.py   the same for WebSockets
    scenarios/    what is measured                     report.py  rows, bars and tables
"""
