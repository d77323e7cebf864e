#!/bin/sh
# Does what the README tells a newcomer to do, in a bare Debian that knows nothing of this machine but its Rust
# toolchain and cargo's downloads: clone, `make run`, look at the page, stop, start again. Prints how long each took.
# What is cloned is the last commit, not the working folder. With FRESH_PAGE=1 it uses the page in a browser there; with
# FRESH_TEST=1 it runs `make test`, `make install` and `make installcheck` there.
set -eu

clone=$(cd "$(dirname "$0")/.." && pwd)
say() { printf '%s\n' "fresh: $*"; }
fail() { printf '%s\n' "fresh: $*" >&2; exit 1; }

# Namespaces of its own: whatever happens here, mounts and processes go with it.
if [ "${FRESH_INSIDE:-}" != 1 ]; then
    [ "$(id -u)" -eq 0 ] || fail "a chroot needs root; run: sudo env \"PATH=\$PATH\" make fresh"
    folder=$(mktemp -d "${TMPDIR:-/tmp}/realtime-fresh-XXXXXX")
    status=0
    FRESH_INSIDE=1 unshare --mount --mount-proc --pid --fork --kill-child --propagation private "$0" "$folder" || status=$?
    rm -rf --one-file-system -- "$folder"
    exit "$status"
fi

folder=$1
root=$folder/root
log=$folder/run.log

make_root() {
    say "making a bare Debian"
    # The system's own proxy settings, so that this works where only they work.
    apt-config dump | grep -i '::proxy' >"$folder/proxy" || true
    mmdebstrap --quiet --variant=minbase --include=ca-certificates,git,make,procps --aptopt="$folder/proxy" \
        "$(. /etc/os-release && printf '%s' "${FRESH_RELEASE:-${VERSION_CODENAME:-bookworm}}")" "$root"
    [ ! -s "$folder/proxy" ] || cp "$folder/proxy" "$root/etc/apt/apt.conf.d/90proxy"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
}

bind() { # SOURCE PLACE [OPTIONS]
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    [ -z "${3:-}" ] || mount -o "remount,bind,$3" "$root$2"
}

bind_machine() {
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t sysfs -o ro sysfs "$root/sys"
    bind "$(rustup show home 2>/dev/null || printf '%s' "${RUSTUP_HOME:-$HOME/.rustup}")" /opt/rustup ro
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    bind "$cargo_home/bin" /opt/cargo/bin ro
    mkdir -p "$cargo_home/registry"
    bind "$cargo_home/registry" /opt/cargo/registry
    if [ -f "$cargo_home/config.toml" ]; then cp "$cargo_home/config.toml" "$root/opt/cargo/"; fi
    bind "$clone" /src/realtime ro
    # A company's own certificates.
    if [ -f "${SSL_CERT_FILE:-}" ]; then
        mkdir -p "$root$(dirname "$SSL_CERT_FILE")"
        cp --dereference "$SSL_CERT_FILE" "$root$SSL_CERT_FILE"
    fi
}

inside() { # COMMAND...
    env --ignore-environment HOME=/root LANG=C.UTF-8 TERM=dumb PATH=/opt/cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        RUSTUP_HOME=/opt/rustup CARGO_HOME=/opt/cargo RUSTUP_TOOLCHAIN="${RUSTUP_TOOLCHAIN:-stable}" \
        GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' \
        http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" no_proxy="${no_proxy:-}" \
        SSL_CERT_FILE="$certificates" NODE_EXTRA_CA_CERTS="$certificates" PIP_CERT="$certificates" DEMO_URL="${url:-}" \
        chroot "$root" "$@"
}

certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

now() { date +%s; }

address() { sed -n 's/^realtime is running: //p' "$log"; }

# `make run` until it prints its address. Sets $url and $runner.
start() {
    : >"$log"
    begun=$(now)
    inside /bin/sh -c 'cd /root/realtime && exec make run' >"$log" 2>&1 &
    runner=$!
    while url=$(address) && [ -z "$url" ]; do
        kill -0 "$runner" 2>/dev/null || { tail -n 60 "$log"; fail "make run ended before it was ready"; }
        sleep 0.2
    done
    say "$1 start: $(($(now) - begun)) s"
}

look() { # PATH WORD
    answer=$(curl --silent --show-error --max-time 10 "$url$1") || fail "no answer from $url$1"
    case $answer in *"$2"*) say "$1 answers" ;; *) fail "$1 answered without '$2': $answer" ;; esac
}

use_page() {
    begun=$(now)
    inside /root/realtime/xtask/setup.sh browser
    inside cp -r /root/realtime/tests/clients/chromium /root/page
    inside npm --prefix /root/page ci --ignore-scripts --no-audit --no-fund
    inside node --test /root/page/page.test.mjs || fail "the page does not work"
    say "the page works in a browser: $(($(now) - begun)) s"
}

# Ctrl-C, and then nobody may be left: in this namespace there is only us.
stop() {
    kill -INT "$(pgrep -f '/xtask run$')"
    wait "$runner" || fail "make run ended with an error after Ctrl-C"
    left=$(ps -e -o pid=,args= | grep -E 'postgres|realtime-sidecar' | grep -v grep || true)
    [ -z "$left" ] || fail "processes are left: $left"
    say "stopped; no process is left"
}

# A server of the system, as a user of the extension has one.
install_and_check() {
    begun=$(now)
    inside make --directory /root/realtime install
    inside pg_createcluster --start 15 main -- --auth=trust >"$log" 2>&1 || { tail "$log"; fail "no server"; }
    inside make --directory /root/realtime installcheck PGUSER=postgres || fail "the installed extension failed its tests"
    inside pg_ctlcluster 15 main stop
    say "install and check: $(($(now) - begun)) s"
}

make_root
bind_machine
say "cloning and running as the README says"
inside git clone --quiet /src/realtime /root/realtime
start first
look /health status
look / '<html'
[ "${FRESH_PAGE:-}" != 1 ] || use_page
stop
start second
look /health status
stop
[ "$(inside git -C /root/realtime status --porcelain)" = '' ] || fail "the clone was changed by running it"
if [ "${FRESH_TEST:-}" = 1 ]; then
    begun=$(now)
    inside /root/realtime/.ci/run || fail "the tests failed"
    say "tests: $(($(now) - begun)) s"
    install_and_check
fi
inside make --directory /root/realtime clean
[ ! -e "$root/root/realtime/target" ] || fail "make clean left the target folder"
say "all well"
