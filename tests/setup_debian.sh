#!/bin/sh
# Install what the tests need from Debian: a browser and its driver, curl and wget, an X server without
# a screen, Tk for Debian's Python, the libraries that Qt's wheel takes from the system. The tests that
# need them skip without, except with CI=true.
set -eu
missing=""
command -v chromium >/dev/null || missing="$missing chromium"
command -v chromedriver >/dev/null || missing="$missing chromium-driver"
command -v curl >/dev/null || missing="$missing curl"
command -v wget >/dev/null || missing="$missing wget"
command -v Xvfb >/dev/null || missing="$missing xvfb"
[ ! -x /usr/bin/python3 ] || /usr/bin/python3 -c "import tkinter" 2>/dev/null || missing="$missing python3-tk"
libraries=$(/sbin/ldconfig -p)
for each in libEGL.so.1:libegl1 libGL.so.1:libgl1 libfontconfig.so.1:libfontconfig1 \
    libxkbcommon.so.0:libxkbcommon0 libglib-2.0.so.0:libglib2.0-0; do
    case $libraries in
    *"${each%:*} "*) ;;
    *) missing="$missing ${each#*:}" ;;
    esac
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing fonts-dejavu-core >/dev/null
else
    echo "not installed:$missing; some tests will skip" >&2
    [ "${CI:-}" != true ]
fi
