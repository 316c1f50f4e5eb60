#!/usr/bin/env bash
# Run `ansible-test sanity` on the built artifact, in the directory layout that it needs.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
bin=$(dirname "$python")
tree=$root/.cache/sanity/ansible_collections/flowfleet/langflow
rm -rf "$root/.cache/sanity"
mkdir -p "$tree"
# What users install is what is checked: the built artifact, unpacked.
"$bin/ansible-galaxy" collection build --force --output-path "$root/.cache/sanity" "$root" > /dev/null
tar -C "$tree" -xzf "$root"/.cache/sanity/flowfleet-langflow-*.tar.gz
rm "$tree/MANIFEST.json" "$tree/FILES.json"
# ansible-test looks at git to learn which files belong to the collection.
git -C "$tree" init -q
git -C "$tree" add -A

# ansible-test bootstraps pip with a script that it downloads; Python's own ensurepip does the same without a network.
cache=${HOME:-/root}/.ansible/test/cache
mkdir -p "$cache"
version=$("$python" - <<'PY'
import pathlib
import re

import ansible_test

source = pathlib.Path(ansible_test.__path__[0], "_internal/python_requirements.py").read_text(encoding="utf-8")
print(re.search(r"pip *= *'([0-9.]+)'", source).group(1).replace(".", "_"))
PY
)
script=$cache/get_pip_$version.py
if [ ! -e "$script" ]; then
  cat > "$script" <<'PY'
import subprocess
import sys

subprocess.check_call([sys.executable, "-m", "ensurepip"])
arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "pip", "install", *arguments])
PY
fi
cd "$tree"
minor=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PATH=$bin:$PATH exec "$bin/ansible-test" sanity --color no --python "$minor" "$@"
