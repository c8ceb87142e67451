#!/bin/sh
# make_venv.sh PYTHON DIRECTORY: a virtual environment; Debian keeps the means in a package of its own.
set -eu
"$1" -m venv "$2" || {
    [ "$(id -u)" = 0 ] || { echo "install python3-venv first: apt-get install python3-venv" >&2; exit 1; }
    apt-get update -qq && apt-get install -y -qq python3-venv
    "$1" -m venv "$2"
}
