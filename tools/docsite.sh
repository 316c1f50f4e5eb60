#!/usr/bin/env bash
# Build docs/ and the plugin pages as one HTML site in .cache/docsite/html.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${PYTHON:+$(dirname "$PYTHON")}
bin=${bin:-$root/.venv/bin}
site=$root/.cache/docsite
mkdir -p "$site"
if ! cmp -s "$root/docs/docsite/requirements.txt" "$site/installed.txt"; then
  "$bin/uv" venv --quiet --allow-existing --python "$bin/python" "$site/venv"
  "$bin/uv" pip install --quiet --python "$site/venv/bin/python" --require-hashes -r "$root/docs/docsite/requirements.txt"
  cp "$root/docs/docsite/requirements.txt" "$site/installed.txt"
fi
rm -rf "$site/source" "$site/html"
mkdir -p "$site/source/collection"
cp -r "$root/docs/." "$site/source/"
rm -r "$site/source/docsite"
cp "$root/CONTRIBUTING.md" "$site/source/"
chmod og-w "$site/source/collection"
PATH=$bin:$PATH ANSIBLE_COLLECTIONS_PATH=${ANSIBLE_COLLECTIONS_PATH:-$root/.cache/collections} "$bin/antsibull-docs" \
  collection --use-current --squash-hierarchy --fail-on-error --dest-dir "$site/source/collection" flowfleet.langflow
printf '\n- [Modules and plugins](collection/index.rst)\n' >> "$site/source/index.md"
"$site/venv/bin/python" -m sphinx -q -b html -c "$root/docs/docsite" "$site/source" "$site/html"
echo "site: $site/html/index.html"
