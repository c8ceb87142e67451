#!/bin/sh
# setup.sh PYTHON3 DIRECTORY: the Autobahn test suite in a virtual environment of its own.
#
# It runs on CPython 2.7 only: PYTHON2 names one, else one from the PATH or from pyenv is taken. The last
# virtualenv that can make environments of 2.7 is fetched for that, and not kept.
set -eu
python3=$1
directory=$2

python2=""
for candidate in ${PYTHON2:-python2.7 python2 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7*/bin/python2.7}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then
        python2=$candidate
        break
    fi
done
[ -n "$python2" ] || {
    echo "the Autobahn test suite needs CPython 2.7: make autobahn PYTHON2=/path/to/python2.7" >&2
    exit 1
}

tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
"$python3" -m pip install --quiet --target "$tool" 'virtualenv<20.22'
PYTHONPATH="$tool" "$python3" -m virtualenv --quiet --python "$python2" "$directory"
"$directory/bin/python" -m pip install --quiet autobahntestsuite==0.8.2
