#!/bin/sh
# Install what the tests need from Debian: a browser and its driver. Without it the browser tests skip,
# except with CI=true.
set -eu
missing=""
command -v chromium >/dev/null || missing="$missing chromium"
command -v chromedriver >/dev/null || missing="$missing chromium-driver"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing fonts-dejavu-core >/dev/null
else
    echo "not installed:$missing; the browser tests will skip" >&2
    [ "${CI:-}" != true ]
fi
