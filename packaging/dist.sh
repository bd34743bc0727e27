#!/bin/sh
# Builds the files of a release in target/dist: a tarball, a Debian package, an RPM, a bill of materials, and checksums.
#
#   packaging/dist.sh                  builds the optimised binary, then everything
#   packaging/dist.sh build            builds the optimised binary only, as the container image does
#   packaging/dist.sh packages BINARY  everything, with an existing binary
#   packaging/dist.sh tarball BINARY   the tarball only, with an existing binary
#
# The result depends on the sources alone: paths are remapped, times are those of the last commit, and archives are sorted.
set -eu
cd "$(dirname "$0")/.."

root=$(pwd)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name="latchkey-$version-$(uname -m)-linux-gnu"
dist="$root/target/dist"
files="$dist/files"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH PATH="$root/target/tools/bin:$PATH"

# Lays out the files that every kind of package contains. $1: the binary
lay_out() {
    rm -rf "$dist"
    mkdir -p "$files/man" "$files/completions" "$files/licenses"
    install -m 755 "$1" "$files/latchkey"
    "$1" man --dir "$files/man" >/dev/null
    for shell in bash zsh fish; do "$1" completions "$shell" >"$files/completions/latchkey.$shell"; done
    # every setting with its default, commented out: `name = value`, and the further lines of a list
    "$1" config --defaults | sed -E 's/^([a-z0-9_]+ = |    |\])/#\1/' >"$files/latchkey.toml"
    cp packaging/systemd/latchkey.service packaging/systemd/latchkey.socket LICENSE README.md CHANGELOG.md "$files"
    # the libraries in the binary, and the texts of their licences; `cargo tree` prints the packages of this repository with their paths
    cargo tree --locked --package latchkey --edges normal --prefix none --no-dedupe --format '{p}|{l}|{r}' |
        sed 's/ (proc-macro)//' | grep -v ' (/' | sort -u >"$files/licenses/LIBRARIES.txt"
    cut -d'|' -f1 "$files/licenses/LIBRARIES.txt" | while read -r library version_tag; do
        source="$cargo_home"/registry/src/*/"$library-${version_tag#v}"
        # shellcheck disable=SC2086 # the folder of the registry is a pattern
        for text in $(find $source -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' \) | sort); do
            cp "$text" "$files/licenses/$library-$(basename "$text")"
        done
    done
}

tarball() {
    tar --create --directory "$dist" --transform "s|^files|$name|" --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
        --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX files | gzip -9n >"$dist/$name.tar.gz"
}

packages() {
    lay_out "$1"
    tarball
    gzip -9n "$files"/man/*
    cargo deb --no-build --no-strip --quiet --output "$dist/"
    cargo generate-rpm --output "$dist/"
    # cyclonedx writes a file beside the Cargo.toml of each workspace member: keep the service's, in the root
    cargo cyclonedx --format json --override-filename "$name.cdx" --quiet
    find . -name "$name.cdx.json" -path "./$name.cdx.json" -exec mv {} "$dist/" \;
    find . -path ./target -prune -o -name "$name.cdx.json" -exec rm {} +
}

# Builds the binary of a release. So that the build is reproducible, the binary contains no path of this machine, neither from Rust
# code nor from C libraries, and not the time of the commit.
build() {
    CFLAGS="${CFLAGS-} -ffile-prefix-map=$root=/latchkey -ffile-prefix-map=$cargo_home=/cargo"
    CXXFLAGS="${CXXFLAGS-} -ffile-prefix-map=$root=/latchkey -ffile-prefix-map=$cargo_home=/cargo"
    export CFLAGS CXXFLAGS
    # the byte \037 separates the flags
    SOURCE_DATE_EPOCH=0 CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$root=/latchkey$(printf '\037')--remap-path-prefix=$cargo_home=/cargo" \
        cargo build --release --locked --bin latchkey
}

case ${1-} in
build)
    build
    exit
    ;;
tarball)
    lay_out "$2"
    tarball
    ;;
packages)
    packages "$2"
    ;;
'')
    build
    packages target/release/latchkey
    ;;
*)
    echo "usage: packaging/dist.sh [build | packages BINARY | tarball BINARY]" >&2
    exit 2
    ;;
esac
rm -r "$files"
(cd "$dist" && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)
