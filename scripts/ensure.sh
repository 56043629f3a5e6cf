#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes sure that what a mode needs is there: Node.js, the npm packages, a compiler for them, Debian packages.
# Installs what is missing (Debian packages only as root), else says which command does.
# Exit status: 0 go on, perhaps with less (said loudly); 1 something is missing that cannot be done without.
# usage: scripts/ensure.sh test|guest|bench|demo
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PATH:/usr/sbin:/sbin" # mke2fs and its like, for users who are not root

NODE_WANTED=20.19

say() { echo "ensure: $*" >&2; }
die() {
  say "$@"
  exit 1
}

# What each mode needs, as Debian package:what shows that it is there (a command, or a path).
case "${1:-}" in
  demo) must='e2fsprogs:mke2fs e2fsprogs:debugfs' optional='' ;;
  test)
    must=''
    optional='e2fsprogs:mke2fs e2fsprogs:debugfs zstd:zstd qemu-utils:qemu-nbd qemu-system-common:qemu-storage-daemon
      nbdkit:nbdkit libnbd-bin:nbdinfo libnbd-bin:nbdcopy libnbd-bin:nbdfuse fio:fio openssl:openssl
      qemu-system-x86:qemu-system-x86_64 lzop:lzop chromium:chromium systemd:systemd-analyze perl:prove python3-libnbd:/usr/lib/python3/dist-packages/nbd.py
      xfsprogs:mkfs.xfs btrfs-progs:mkfs.btrfs dosfstools:mkfs.vfat
      python3:/usr/bin/python3 python3-zstandard:/usr/lib/python3/dist-packages/zstandard
      exfatprogs:mkfs.exfat exfat-fuse:mount.exfat-fuse swtpm:swtpm strace:strace seabios:/usr/share/seabios/bios-256k.bin'
    ;;
  guest)
    must=''
    optional='qemu-system-x86:qemu-system-x86_64 qemu-utils:qemu-img e2fsprogs:mke2fs e2fsprogs:debugfs dpkg:dpkg-deb tar:tar'
    ;;
  bench)
    must='e2fsprogs:mke2fs e2fsprogs:debugfs zstd:zstd time:/usr/bin/time'
    optional='borgbackup:borg restic:restic qemu-utils:qemu-nbd fio:fio libnbd-bin:nbdcopy'
    ;;
  *)
    echo "usage: scripts/ensure.sh test|guest|bench|demo" >&2
    exit 2
    ;;
esac

is_there() {
  case "$1" in
    /*) [ -e "$1" ] ;;
    *) type -P "$1" >/dev/null ;;
  esac
}

# The packages of a list that are missing, each once.
missing_of() {
  local pair package found=' '
  for pair in $1; do
    package=${pair%%:*}
    if ! is_there "${pair#*:}" && [[ $found != *" $package "* ]]; then found+="$package "; fi
  done
  found=${found# }
  echo "${found% }"
}

# Runs a command quietly; if it fails, shows how what it said begins, and where the rest is.
quietly() {
  local log
  log=$(mktemp "${TMPDIR:-/tmp}/vmar-ensure-XXXXXX.log")
  if "$@" >"$log" 2>&1 </dev/null; then
    rm -f "$log"
    return 0
  fi
  grep -v 'npm warn' "$log" | head -n 12 >&2 || true
  say "$1 failed; all that it said is in $log"
  return 1
}

# Installs Debian packages where that is possible; whoever calls looks afterwards at what is still missing.
install_packages() {
  [ "$(id -u)" = 0 ] && type -P apt-get >/dev/null || return 0
  export DEBIAN_FRONTEND=noninteractive
  local install=(apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends) package
  say "installing Debian packages: $*"
  quietly apt-get -qq update || say "apt-get update failed; trying with the lists that are here"
  if [ $# = 1 ]; then
    quietly "${install[@]}" "$1" || true
  elif ! "${install[@]}" "$@" >/dev/null 2>&1 </dev/null; then
    for package; do quietly "${install[@]}" "$package" || true; done # one that cannot be had must not stop the others
  fi
}

how_to_install() {
  if ! type -P apt-get >/dev/null; then
    echo "install them with your system's package manager (the names are Debian's)"
  elif [ "$(id -u)" = 0 ]; then
    echo "apt-get could not install them (see above); try: apt-get update && apt-get install $*"
  else
    echo "run: sudo apt-get update && sudo apt-get install $*"
  fi
}

check_node() {
  local version major minor
  type -P node >/dev/null || die "Node.js $NODE_WANTED or newer is needed, and there is none. README.md, \"Node.js\", says how to get it."
  version=$(node --version)
  IFS=. read -r major minor _ <<<"${version#v}"
  if ((major < ${NODE_WANTED%.*} || (major == ${NODE_WANTED%.*} && minor < ${NODE_WANTED#*.}))); then
    die "Node.js $NODE_WANTED or newer is needed, but $(type -P node) is $version (Debian 12's own is 18)." \
      "README.md, \"Node.js\", says how to get it."
  fi
  type -P npm >/dev/null || die "npm is missing beside $(type -P node); it comes with the official Node.js packages."
}

packages_are_stale() {
  [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ] ||
    [ ! -e node_modules/zstd-napi/build/Release/binding.node ]
}

# zstd-napi is compiled while it is installed.
check_compiler() {
  local needed='make:make python3:python3' missing
  type -P c++ >/dev/null || type -P "${CXX:-g++}" >/dev/null || needed="g++:g++ $needed"
  missing=$(missing_of "$needed")
  [ -z "$missing" ] || install_packages $missing
  missing=$(missing_of "$needed")
  [ -z "$missing" ] || die "npm's package zstd-napi is compiled here and needs: $missing; $(how_to_install $missing)"
}

install_npm_packages() {
  # npm would empty the directory that it points to, under whoever works there.
  [ ! -L node_modules ] || die "node_modules is a link to $(readlink node_modules), and the packages there are not those of" \
    "package-lock.json, or older: run npm ci in that directory, or remove the link."
  say "installing npm packages (zstd-napi is compiled: up to a minute)"
  quietly npm ci --include=dev --no-audit --no-fund --loglevel=error || die "the npm packages could not be installed"
  ! packages_are_stale || die "npm ci left something out; was it run with --ignore-scripts? Try: npm rebuild zstd-napi"
}

check_node
missing=$(missing_of "$must $optional")
[ -z "$missing" ] || install_packages $missing

missing=$(missing_of "$must")
[ -z "$missing" ] || die "needed, but not here: $missing; $(how_to_install $missing)"
missing=$(missing_of "$optional")
[ -z "$missing" ] || say "WARNING: not here: $missing: what needs them is left out; $(how_to_install $missing)"

if packages_are_stale; then
  check_compiler
  install_npm_packages
fi
