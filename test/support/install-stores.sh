#!/bin/sh
# Sees to it that the mass stores that tests run against are there: install-stores.sh xrootd swift
# Debian, as root: installed by apt, one caller after the other. Elsewhere it says what is missing and fails; the
# tests are then skipped. SWEEPBOOK_TEST_INSTALL=no keeps it from installing anything.
set -eu

find_missing() {
  packages=
  for store in "$@"; do
    case $store in
      xrootd) program=xrdcp; needs='xrootd-server xrootd-client' ;;
      swift) program=swift-proxy-server; needs='swift-proxy swift-object swift-container swift-account' ;;
      *) echo "no such store: $store" >&2; exit 2 ;;
    esac
    command -v "$program" >/dev/null 2>&1 || packages="$packages $needs"
  done
}
find_missing "$@"
[ -n "$packages" ] || exit 0

if [ "${SWEEPBOOK_TEST_INSTALL:-yes}" = no ] || [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "not installed:$packages (apt-get install them as root)" >&2
  exit 1
fi
exec 9>"${TMPDIR:-/tmp}/sweepbook-install-stores.lock"
flock 9
find_missing "$@"
[ -n "$packages" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -qq -y --no-install-recommends $packages </dev/null >/dev/null 2>&1 9>&-; }
install || { apt-get update -qq >/dev/null 2>&1 9>&- && install; } || {
  echo "cannot be installed:$packages" >&2
  exit 1
}
