# shellcheck shell=bash
# What the scripts share: saying what is done, finding or installing tools, counting checks, cleaning up.
# Source it first; it turns on strict mode and moves to the root of the repository.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"

# Tools that are not part of the repository live here; safe to delete.
KUBE9_TOOLS=${KUBE9_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/kube9-tools}
# Where cargo builds; read by the scripts that look for what it built.
# shellcheck disable=SC2034
TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}

# This machine's architecture, and the name of one in container images and in Debian: `oci_arch x86_64`
# shellcheck disable=SC2034
HOST_ARCH=$(uname -m | sed s/arm64/aarch64/)
oci_arch() { case $1 in x86_64) echo amd64 ;; aarch64) echo arm64 ;; *) die "no architecture '$1' here" ;; esac; }

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- counting checks: `check WHAT COMMAND...`, then `finish` as the last line of the script

PASSED=0 FAILED=0
pass() { PASSED=$((PASSED + 1)); printf 'ok      %s\n' "$*"; }
fail() { FAILED=$((FAILED + 1)); printf 'FAILED  %s\n' "$*"; }
check() {
  local what=$1
  shift
  if "$@"; then pass "$what"; else fail "$what"; fi
}
# Conditions: what a command prints has a pattern, or lacks it.
has() { local pattern=$1; shift; "$@" 2>/dev/null | grep -i -- "$pattern" >/dev/null; }
lacks() { ! has "$@"; }
mebibytes() { awk -v n="$1" 'BEGIN { printf "%.2f MiB", n / 1048576 }'; }
finish() {
  printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
  [ "$FAILED" -eq 0 ]
}

# --- cleaning up: `on_exit COMMAND...` runs at the end, the latest first, whatever the end is

ON_EXIT=()
on_exit() { ON_EXIT=("$(printf '%q ' "$@")" "${ON_EXIT[@]}"); }
run_on_exit() {
  local status=$? command
  for command in "${ON_EXIT[@]}"; do eval "$command" || true; done
  exit "$status"
}
trap run_on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# A directory of this run's own, removed at the end: `scratch NAME` sets $NAME.
scratch() {
  local dir
  dir=$(mktemp -d "${TMPDIR:-/tmp}/kube9.XXXXXX")
  on_exit rm -rf "$dir"
  printf -v "$1" '%s' "$dir"
}

# --- tools

is_debian() { have apt-get && have dpkg; }

# Installs Debian packages, or says which are missing: `debian_packages PACKAGE...`
debian_packages() {
  local package missing=()
  if is_debian; then
    for package; do
      dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ "$(id -u)" -eq 0 ]; then
      say "installing Debian packages: ${missing[*]}"
      if apt_install "${missing[@]}"; then return 0; fi
      apt-get -qq update </dev/null >&2 && apt_install "${missing[@]}" && return 0
    fi
  else
    missing=("$@")
  fi
  printf 'error: please install (named as in Debian): %s\n' "${missing[*]}" >&2
  return 1
}
apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" </dev/null >/dev/null
}

# Makes sure of a command: `need COMMAND DEBIAN-PACKAGE`
need() { have "$1" || debian_packages "$2" || die "$1 is needed"; }

# The Rust toolchain that rust-toolchain.toml names.
need_rust() {
  if have rustup; then
    rustup show active-toolchain >/dev/null 2>&1 && cargo --version >/dev/null 2>&1 && return 0
    local channel
    channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
    say "installing Rust $channel"
    rustup toolchain install "$channel" --profile minimal --component clippy --component rustfmt >&2
  fi
  have cargo || die "cargo is needed: install Rust from https://rustup.rs, then run this again"
}

# Adds a Rust target, or fails quietly where there is no rustup or no such target: `rust_target TRIPLE`
rust_target() {
  [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ] && return 0
  have rustup || return 1
  say "adding the Rust target $1"
  rustup target add "$1" >&2
}

# Prints the path of a program that comes as a Python package: `python_tool PROGRAM PACKAGE==VERSION`
python_tool() {
  local venv=$KUBE9_TOOLS/python
  if ! [ -f "$venv/$2" ] || ! [ -x "$venv/bin/$1" ]; then
    need python3 python3
    mkdir -p "$KUBE9_TOOLS"
    if ! [ -x "$venv/bin/pip" ]; then
      python3 -m venv "$venv" >/dev/null 2>&1 ||
        { debian_packages python3-venv && python3 -m venv "$venv"; } ||
        die "python3 -m venv does not work"
    fi
    say "installing $2 from PyPI"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$2" >&2 || die "cannot install $2"
    touch "$venv/$2"
  fi
  printf '%s\n' "$venv/bin/$1"
}
