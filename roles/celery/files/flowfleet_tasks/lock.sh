#!/bin/sh
# Make requirements.txt, the hash lock of the workers, the beat and the API: lock.sh [OPTION of uv, such as --upgrade]
#
# What is pinned already stays at its version, unless an option says otherwise.
# One universal file serves every CPython from 3.11 on; it holds no index address, so the index stays the installing
# site's decision. Needs `uv` in PATH (or in $UV).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

cp "$here/requirements.in" "$here/requirements.txt" "$work/"
(cd "$work" && "${UV:-uv}" pip compile --quiet --universal --generate-hashes --python-version 3.11 \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
    --output-file requirements.txt "$@" requirements.in)
{
    echo "# Made by lock.sh from requirements.in."
    grep -v '^#' "$work/requirements.txt"
} > "$here/requirements.txt"
echo "$here/requirements.txt: $(grep -c '==' "$here/requirements.txt") pinned packages"
