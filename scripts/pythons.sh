#!/usr/bin/env bash
# Every CPython that aioxide supports and that is here: pyenv's, uv's, those on PATH, and on a
# Debian machine the newest from Debian sid in a chroot of their own, for what is missing then
# (3.14, 3.15) and for debug builds. Of each version the first found is the one that is used.
# Free-threaded builds have a `t` behind the version: 3.14t, 3.15t.
#
#   pythons.sh list                    one line per version: VERSION KIND PATH
#   pythons.sh setup [PACKAGE ...]     make the chroot (root; about two minutes; kept afterwards)
#   pythons.sh make VERSION [PYTHON]   make a free-threaded build in seconds, from PyPI's freeze-core
#                                      and the chroot's library; PYTHON is one that has pip
#   pythons.sh run VERSION COMMAND …   run COMMAND with VERSION's `python` first on PATH:
#                                      sid's inside the chroot, where the working directory, /tmp,
#                                      the Rust toolchain, the checkout and the folder it lies in
#                                      are the same paths as outside; the others on this system
#
# Without root or Debian: `uv python install 3.11 3.12 3.13 3.14 3.15 3.14t 3.15t`, or pyenv.
#
# Inside the chroot build into a CARGO_TARGET_DIR and a venv of their own: its glibc is newer.
set -euo pipefail

ROOT=${AIOXIDE_SID:-/opt/debian-sid}
MIRROR=${AIOXIDE_DEBIAN_MIRROR:-http://deb.debian.org/debian}
SID_PACKAGES="python3.14-full python3.14-dev libpython3.14-testsuite python3.15-full python3.15-dev libpython3.15-testsuite ca-certificates gcc libc6-dev make pkg-config openssl"
CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
MADE=$CHECKOUT/.cache/made

usage() { sed -n '2,/^set/{/^#/p}' "${BASH_SOURCE[0]}"; }

pyenv_versions() {
  local root=${PYENV_ROOT:-$HOME/.pyenv} dir version
  for dir in "$root"/versions/*/; do
    version=$(basename "$dir")
    case $version in
      3.1[4-9].*t) echo "${version%.*}t pyenv ${dir}bin/python" ;;
      *t | *t-dev) ;;
      3.1[1-9].*) echo "${version%.*} pyenv ${dir}bin/python" ;;
    esac
  done | sort -Vr -k3
}

uv_versions() {
  local root dir version
  root=$(uv python dir 2>/dev/null) || return 0
  for dir in "$root"/cpython-3.1[1-9].*/; do
    version=$(basename "$dir")
    version=${version#cpython-}
    case $version in
      3.1[4-9].*+freethreaded-*)
        [[ -x ${dir}bin/python ]] && echo "$(cut -d. -f1,2 <<<"$version")t uv ${dir}bin/python" ;;
      *+*) ;;  # debug builds
      *) [[ -x ${dir}bin/python ]] && echo "$(cut -d. -f1,2 <<<"$version") uv ${dir}bin/python" ;;
    esac
  done | sort -Vr -k3
}

path_versions() {
  local version
  for version in 3.11 3.12 3.13 3.14 3.15 3.14t 3.15t; do
    # The interpreter itself, not a shim or a virtual environment; nothing if it does not start.
    "python$version" -c '
import sys, sysconfig
if sys.implementation.name == "cpython":
    kind = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    print("{0[0]}.{0[1]}{1} path {2}".format(sys.version_info, kind, sys._base_executable))' \
      2>/dev/null || true
  done
}

sid_versions() {
  local bin
  for bin in "$ROOT"/usr/bin/python3.1[0-9] "$ROOT"/usr/bin/python3.1[0-9]-dbg; do
    [[ -x $bin ]] || continue
    bin=${bin#"$ROOT"}
    echo "${bin#/usr/bin/python} sid $bin"
  done
}

made_versions() {
  local bin
  for bin in "$MADE"/*/bin/python; do
    if [[ -x $bin ]]; then echo "$(basename "${bin%/bin/python}") made $bin"; fi
  done
}

versions() {
  { pyenv_versions; uv_versions; path_versions; sid_versions; made_versions; } | awk '!seen[$1]++'
}

mount_once() {
  # Visible already, as part of /tmp: a second mount would shadow it.
  [[ $ROOT$1 -ef $1 ]] && return
  # Something else is mounted there, such as a folder that has been deleted since.
  while mountpoint -q "$ROOT$1"; do umount -l "$ROOT$1"; done
  mkdir -p "$ROOT$1"
  mount --rbind "$1" "$ROOT$1"
}

mounts() {
  local path
  for path in /proc /dev /sys /tmp; do mount_once "$path"; done
  for path in "${CARGO_HOME:-$HOME/.cargo}" "${RUSTUP_HOME:-$HOME/.rustup}"; do
    if [[ -d $path ]]; then mount_once "$path"; fi
  done
  # The checkout and its neighbours, but never the whole file system.
  if [[ $(dirname "$CHECKOUT") == / ]]; then
    mount_once "$CHECKOUT"
  else
    mount_once "$(dirname "$CHECKOUT")"
  fi
  cp -f /etc/resolv.conf /etc/hosts "$ROOT/etc/" 2>/dev/null || true
  mkdir -p "$ROOT/etc/ssl/certs"
  cp -f /etc/ssl/certs/ca-certificates.crt "$ROOT/etc/ssl/certs/" 2>/dev/null || true
}

# Become a command in the chroot. Its mounts are in a namespace of their own: they end with it,
# and runs side by side do not meet.
inside() {
  [[ -d $ROOT/usr ]] || { echo "pythons.sh: no chroot at $ROOT; 'setup' makes it" >&2; exit 2; }
  exec unshare --mount --propagation private bash "${BASH_SOURCE[0]}" enter "$@"
}

setup() {
  # Written last: a chroot without it was left half made.
  local finished=$ROOT/etc/apt/apt.conf.d/99-valid-until
  if [[ ! -f $finished ]]; then
    command -v debootstrap >/dev/null || { apt-get update -q; apt-get install -y -q debootstrap; }
    # debootstrap mounts /proc there and leaves it when it fails.
    while mountpoint -q "$ROOT/proc"; do umount "$ROOT/proc"; done
    rm -rf --one-file-system "$ROOT"
    debootstrap --variant=minbase "--include=${SID_PACKAGES// /,}" sid "$ROOT" "$MIRROR"
    echo 'Acquire::Check-Valid-Until "false";' >"$finished"
  fi
  if (($#)); then
    (inside apt-get update -q)
    (export DEBIAN_FRONTEND=noninteractive && inside apt-get install -y -q --no-install-recommends "$@")
  fi
}

make() {
  local version=$1 python=${2:-python3}
  case $version in
    3.14t | 3.15t) ;;
    *) echo "pythons.sh: no way to make $version, only 3.14t and 3.15t" >&2; exit 2 ;;
  esac
  [[ -d $ROOT/usr/lib/python${version%t} ]] ||
    { echo "pythons.sh: no python${version%t} in $ROOT; 'setup' makes it" >&2; exit 2; }
  "$python" "$CHECKOUT/scripts/free_threaded.py" "${version%t}" "$MADE/$version" "$ROOT"
}

run() {
  local version=$1 kind path
  shift
  read -r _ kind path < <(versions | awk -v v="$version" '$1 == v') ||
    { echo "pythons.sh: no Python $version here; 'list' names what there is" >&2; exit 2; }
  if [[ $kind != sid ]]; then
    # A folder in which it is called `python`, as /usr/bin has many.
    local links=$CHECKOUT/.cache/pythons/$version
    mkdir -p "$links"
    ln -sf "$path" "$links/python"
    ln -sf "$path" "$links/python3"
    PATH=$links:$PATH exec "$@"
  fi
  mkdir -p "$ROOT/opt/py$version"
  ln -sf "$path" "$ROOT/opt/py$version/python"
  ln -sf "$path" "$ROOT/opt/py$version/python3"
  inside env "PATH=/opt/py$version:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    "HOME=$HOME" bash -c 'cd "$1" && shift && exec "$@"' run "$PWD" "$@"
}

case ${1:-} in
  list) versions | sort -V ;;
  setup) shift; setup "$@" ;;
  make) shift; [[ ${1:-} ]] || { usage; exit 2; }; make "$@" ;;
  enter) shift; mounts; exec chroot "$ROOT" "$@" ;;  # what `inside` starts
  run) shift; [[ ${2:-} ]] || { usage; exit 2; }; run "$@" ;;
  *) usage; exit 2 ;;
esac
