#!/bin/sh
# Install the Debian packages listed in the files named as arguments, when any is missing; says so when it may not.
set -eu
missing=
packages=$(grep -hv '^#' "$@")
for package in $packages; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=sudo
else
    echo "tccp: error: these Debian packages are missing:$missing" >&2
    echo "tccp: hint: as root: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "installing Debian packages:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get -qq update
# shellcheck disable=SC2086  # the list is meant to split
$as_root apt-get -qq install -y --no-install-recommends $missing >/dev/null
