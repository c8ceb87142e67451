#!/bin/sh
# find_python.sh VERSION: the interpreter of that version, in the PATH or under pyenv; nothing without.
for found in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
    if "$found" -c "" 2>/dev/null; then
        command -v "$found"
        exit
    fi
done
