#!/bin/sh
# Make the hash locks of role langflow: tools/lock_langflow.sh [VERSION|uv|uv==UV_VERSION ...]
#
#     tools/lock_langflow.sh                  both: the default release of Langflow, and uv
#     tools/lock_langflow.sh 1.12.7 1.12.8    these releases of Langflow, the lock of uv stays as it is
#     tools/lock_langflow.sh uv==0.13.9       uv only
#
# One universal file serves every CPython from 3.11 on; it holds no index address, so the index stays the installing
# site's decision. Needs `uv` in PATH (or in $UV). To lock additional packages, add them to EXTRA_REQUIREMENTS.
set -eu

langflow_version=1.13.0
uv_version=0.13.9
uv=${UV:-uv}
files=$(cd "$(dirname "$0")/../roles/langflow/files" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

# $1 = requirement lines, $2 = file to write
lock() {
    printf '%s\n' "$1" > "$work/requirements.in"
    (cd "$work" && "$uv" pip compile --quiet --universal --generate-hashes --python-version 3.11 \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
        --output-file requirements.txt requirements.in)
    {
        echo "# Made by tools/lock_langflow.sh from: $(printf '%s' "$1" | tr '\n' ' ')"
        cat "$work/requirements.txt"
    } > "$2"
    rm -f "$work/requirements.txt"
    echo "$2: $(grep -c '==' "$2") pinned packages"
}

[ $# -gt 0 ] || set -- "$langflow_version" uv
for wanted in "$@"; do
    case $wanted in
        uv) lock "uv==$uv_version" "$files/requirements-uv.txt" ;;
        uv==*) lock "$wanted" "$files/requirements-uv.txt" ;;
        [0-9]*) lock "langflow-base[pgvector,postgresql]==$wanted${EXTRA_REQUIREMENTS:+
$EXTRA_REQUIREMENTS}" "$files/requirements-$wanted.txt" ;;
        *) echo "usage: $0 [VERSION|uv|uv==UV_VERSION ...]" >&2; exit 2 ;;
    esac
done
