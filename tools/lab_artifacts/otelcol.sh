#!/usr/bin/env bash
# Build the OpenTelemetry Collector of the lab with the official builder, from what otelcol.builder.yml lists. Everything comes
# from the Go module proxy, verified by Go's checksum database. A second run does nothing. It takes a while and asks for little:
# the lowest priority and one core. Result, laid out as upstream's archive: .cache/lab-artifacts/otelcol-contrib.tar.gz, and .sha256.
set -euo pipefail
cd "$(dirname "$0")/../.."

manifest=tools/lab_artifacts/otelcol.builder.yml
output=$PWD/.cache/lab-artifacts
archive=$output/otelcol-contrib.tar.gz
# The compiler for machines without Go is a module too; this is the checksum of its archive.
go_version=1.26.8
go_sha256_amd64=30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7

say() { printf 'otelcol: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

made_from() { cat "$manifest" "$0" | sha256sum | cut -d' ' -f1; }

usable_go() { # the command runs and is 1.25 or newer
  local version
  version=$("$1" env GOVERSION 2>/dev/null) || return 1
  [ "$(printf '%s\n' go1.25 "$version" | sort -V | head -n 1)" = go1.25 ]
}

fetched_go() { # prints the path of a compiler that is fetched once
  local name=golang.org/toolchain@v0.0.1-go$go_version.linux-amd64 proxy=${GOPROXY:-https://proxy.golang.org}
  local folder=$PWD/.cache/go/$name
  if [ ! -x "$folder/bin/go" ]; then
    [ "$(uname -m)" = x86_64 ] || die "this machine is not x86_64: install Go $go_version and put it into PATH."
    say "fetching Go $go_version"
    mkdir -p .cache/go
    curl -fsSL --retry 3 -o .cache/go/toolchain.zip "${proxy%%,*}/golang.org/toolchain/@v/v0.0.1-go$go_version.linux-amd64.zip"
    echo "$go_sha256_amd64  .cache/go/toolchain.zip" | sha256sum --check --quiet || die "the archive of Go has another checksum."
    python3 -m zipfile -e .cache/go/toolchain.zip .cache/go
    rm .cache/go/toolchain.zip
    # A module's archive has no rights in it.
    chmod -R u+x "$folder/bin" "$folder/pkg/tool"
  fi
  echo "$folder/bin/go"
}

if [ -s "$archive" ] && [ "$(cat "$output/otelcol.made-from" 2>/dev/null)" = "$(made_from)" ]; then
  exit 0
fi

go=$(command -v go || echo /usr/local/go/bin/go)
usable_go "$go" || go=$(fetched_go)
PATH=$(dirname "$go"):$PATH
export PATH CGO_ENABLED=0 GOMAXPROCS="${GOMAXPROCS:-1}" GOFLAGS="-p=1 -buildvcs=false -trimpath -modcacherw" GOTOOLCHAIN=local
unset GONOSUMDB GONOSUMCHECK GOINSECURE
version=$(sed -n 's/^  version: //p' "$manifest")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
lowest=(nice -n 19)
if command -v ionice >/dev/null 2>&1; then lowest+=(ionice -c 3); fi

say "building version $version; this takes many minutes"
GOBIN=$work/bin "${lowest[@]}" go install "go.opentelemetry.io/collector/cmd/builder@v$version"
cp "$manifest" "$work/builder.yml"
(cd "$work" && "${lowest[@]}" bin/builder --config builder.yml >"$work/log" 2>&1) || { tail -n 30 "$work/log" >&2; die "the build failed."; }

program=$work/build/otelcol-contrib
"$program" --version >&2
mkdir -p "$output"
# The same bytes give the same archive.
tar --create --gzip --file "$archive.new" --directory "$work/build" --owner root:0 --group root:0 --mode 0755 \
  --mtime "@0" --sort name otelcol-contrib
mv "$archive.new" "$archive"
(cd "$output" && sha256sum otelcol-contrib.tar.gz >otelcol-contrib.tar.gz.sha256)
made_from >"$output/otelcol.made-from"
say "made $archive"
