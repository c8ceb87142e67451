#!/bin/sh
# Install what the benchmarks need from Debian: wrk, the load generator, and nginx, a peer. R with httpuv
# is measured too where it is found, and never installed.
set -eu
PATH="$PATH:/usr/sbin"
missing=""
command -v wrk >/dev/null || missing="$missing wrk"
command -v nginx >/dev/null || missing="$missing nginx-light"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "install first:$missing" >&2
    command -v wrk >/dev/null || exit 1
    echo "without nginx its figures are left out" >&2
fi
