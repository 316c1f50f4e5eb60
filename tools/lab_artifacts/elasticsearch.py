#!/usr/bin/env python3
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assemble the lab's log store from published parts: `python3 tools/lab_artifacts/elasticsearch.py`.

Elasticsearch's own modules are not all published as libraries, OpenSearch's are. So the lab runs an OpenSearch node,
assembled from the list in elasticsearch/parts.txt (sha256, where it goes, coordinates). Maven fetches, this program
verifies and packs. The result is .cache/lab-artifacts/elasticsearch.tar.gz with its checksum beside it, the same bytes
from the same compiler. README.md of role elasticsearch says what the node lacks.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import hashlib
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from xml.sax.saxutils import escape

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
PARTS = HERE / "elasticsearch" / "parts.txt"
SHIM = HERE / "elasticsearch" / "ExtendedPluginsClassLoader.java"
ROOT = "elasticsearch-lab"

# Module: its class, and the modules whose classes it sees.
MODULES: dict[str, tuple[str, list[str]]] = {
    "analysis-common": ("org.opensearch.analysis.common.CommonAnalysisPlugin", ["lang-painless"]),
    "ingest-common": ("org.opensearch.ingest.common.IngestCommonPlugin", ["lang-painless"]),
    "ingest-user-agent": ("org.opensearch.ingest.useragent.IngestUserAgentPlugin", []),
    "lang-mustache": ("org.opensearch.script.mustache.MustachePlugin", []),
    "lang-painless": ("org.opensearch.painless.PainlessPlugin", []),
    "mapper-extras": ("org.opensearch.index.mapper.MapperExtrasPlugin", []),
    "reindex": ("org.opensearch.index.reindex.ReindexPlugin", []),
    "transport-netty4": ("org.opensearch.transport.Netty4Plugin", []),
}

LAUNCHER = """#!/bin/sh
# Starts the node; reads the same variables and files as Elasticsearch's own script does.
set -eu
home=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
conf=${ES_PATH_CONF:-$home/config}
java=${ES_JAVA_HOME:+$ES_JAVA_HOME/bin/}java
options=$(cat "$conf"/jvm.options "$conf"/jvm.options.d/*.options 2>/dev/null | sed -e 's/#.*//' | tr '\\n' ' ')
# shellcheck disable=SC2086
exec "$java" $options ${ES_JAVA_OPTS:-} -Djava.security.manager=allow -Djava.io.tmpdir="${ES_TMPDIR:-/tmp}" \\
  -Dopensearch.path.home="$home" -Dopensearch.path.conf="$conf" \\
  -Dopensearch.distribution.type=tar -Dopensearch.bundled_jdk=false \\
  -cp "$home/lib/*" org.opensearch.bootstrap.OpenSearch "$@"
"""

JVM_OPTIONS = """-XX:+UseG1GC
-XX:+ExitOnOutOfMemoryError
-Xss1m
-Djava.awt.headless=true
-Dfile.encoding=UTF-8
-Djna.nosys=true
-Dlog4j.shutdownHookEnabled=false
-Dlog4j2.disable.jmx=true
-Dio.netty.noUnsafe=true
-Dio.netty.noKeySetOptimization=true
-Dio.netty.recycler.maxCapacityPerThread=0
"""

LOGGING = """status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%p][%c{1.}] %marker%m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""

# The one line that its own sandbox needs: modules of a lab may do what the node may.
POLICY = "grant {\n  permission java.security.AllPermission;\n};\n"


class BuildError(Exception):
    """It cannot be built here; the message says why."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One published file: its checksum, its place in the archive (lib, or a module) and its coordinates."""

    sha256: str
    place: str
    group: str
    name: str
    version: str

    @property
    def file(self) -> str:
        """Its name as Maven writes it."""
        return f"{self.name}-{self.version}.jar"


def read_parts(text: str) -> list[Part]:
    """The list of parts; refuses what would not be verified."""
    parts = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split()
        if len(fields) != 3 or len(fields[0]) != 64 or fields[2].count(":") != 2:
            raise BuildError(f"{PARTS.name}:{number}: expected <sha256> <place> <group>:<name>:<version>")
        parts.append(Part(fields[0], fields[1], *fields[2].split(":")))
    unknown = {part.place for part in parts} - {"lib", *MODULES}
    if unknown:
        raise BuildError(f"{PARTS.name}: no such place: {', '.join(sorted(unknown))}")
    return parts


def project(parts: list[Part]) -> str:
    """What Maven is told to fetch: exactly these, nothing that they ask for."""
    rows = [
        f"<dependency><groupId>{escape(part.group)}</groupId><artifactId>{escape(part.name)}</artifactId>"
        f"<version>{escape(part.version)}</version><exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion>"
        "</exclusions></dependency>"
        for part in parts
    ]
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>flowfleet</groupId>'
        f"<artifactId>lab</artifactId><version>1</version><dependencies>{''.join(rows)}</dependencies></project>\n"
    )


def fetch(parts: list[Part], target: pathlib.Path, maven: str, options: list[str]) -> None:
    """Let Maven copy all parts into a directory."""
    if shutil.which(maven) is None:
        raise BuildError(f"{maven} is not installed (Debian: apt-get install maven default-jdk-headless)")
    (target / "pom.xml").write_text(project(parts))
    command = [
        maven,
        "-B",
        "-q",
        *options,
        "-f",
        str(target / "pom.xml"),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={target}",
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise BuildError(f"Maven cannot fetch the parts:\n{(answer.stdout + answer.stderr).strip()[-2000:]}")


def verify(parts: list[Part], source: pathlib.Path) -> dict[Part, bytes]:
    """The bytes of every part, if they are the ones of the list."""
    found = {}
    for part in parts:
        path = source / part.file
        if not path.is_file():
            raise BuildError(f"{part.file} did not arrive")
        content = path.read_bytes()
        checksum = hashlib.sha256(content).hexdigest()
        if checksum != part.sha256:
            raise BuildError(f"{part.file}: sha256 is {checksum}, expected {part.sha256}")
        found[part] = content
    return found


def shim(javac: str, work: pathlib.Path) -> bytes:
    """A jar with the one class that is not published, the same bytes each time."""
    if shutil.which(javac) is None:
        raise BuildError(f"{javac} is not installed (Debian: apt-get install default-jdk-headless)")
    command = [javac, "-g:none", "--release", "11", "-d", str(work), str(SHIM)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise BuildError(f"{SHIM.name} does not compile:\n{answer.stderr.strip()}")
    name = "org/opensearch/plugins/ExtendedPluginsClassLoader.class"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as jar:
        jar.writestr(zipfile.ZipInfo(name, (1980, 2, 1, 0, 0, 0)), (work / name).read_bytes())
    return out.getvalue()


def descriptor(module: str, version: str) -> str:
    """What tells the node about a module."""
    name, extends = MODULES[module]
    return (
        f"name={module}\ndescription=module {module} of the lab's log store\n"
        f"version={version}\nopensearch.version={version}\n"
        f"java.version=11\nclassname={name}\nextended.plugins={','.join(extends)}\nhas.native.controller=false\n"
    )


def contents(found: dict[Part, bytes], extra: bytes) -> dict[str, tuple[bytes, int]]:
    """All files of the archive: name to bytes and mode."""
    version = next((part.version for part in found if part.name == "opensearch"), None)
    if version is None:
        raise BuildError(f"{PARTS.name}: the server itself (opensearch) is missing")
    files: dict[str, tuple[bytes, int]] = {
        "bin/elasticsearch": (LAUNCHER.encode(), 0o755),
        "config/jvm.options": (JVM_OPTIONS.encode(), 0o644),
        "config/log4j2.properties": (LOGGING.encode(), 0o644),
        f"lib/opensearch-plugin-classloader-{version}.jar": (extra, 0o644),
    }
    for module in MODULES:
        files[f"modules/{module}/plugin-descriptor.properties"] = (descriptor(module, version).encode(), 0o644)
        files[f"modules/{module}/plugin-security.policy"] = (POLICY.encode(), 0o644)
    for part, content in found.items():
        files[f"{'lib' if part.place == 'lib' else f'modules/{part.place}'}/{part.file}"] = (content, 0o644)
    return files


def pack(files: dict[str, tuple[bytes, int]], target: pathlib.Path) -> str:
    """Write the archive, the same bytes for the same files, and its checksum beside it."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        # It has to be there, and empty.
        plugins = tarfile.TarInfo(f"{ROOT}/plugins")
        plugins.type, plugins.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(plugins)
        for name in sorted(files):
            content, mode = files[name]
            entry = tarfile.TarInfo(f"{ROOT}/{name}")
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    packed = gzip.compress(plain.getvalue(), 6, mtime=0)
    checksum = hashlib.sha256(packed).hexdigest()
    target.parent.mkdir(parents=True, exist_ok=True)
    # The checksum last: who finds it finds a whole archive.
    new = target.with_suffix(".new")
    new.write_bytes(packed)
    os.replace(new, target)
    target.with_name(target.name + ".sha256").write_text(f"{checksum}  {target.name}\n")
    return checksum


def main(argv: list[str] | None = None) -> int:
    """Take the arguments, build, tell where it lies."""
    parser = argparse.ArgumentParser(description="Assemble the lab's log store from published parts.")
    parser.add_argument(
        "--output", type=pathlib.Path, default=TOP / ".cache" / "lab-artifacts" / "elasticsearch.tar.gz"
    )
    parser.add_argument("--maven", default="mvn", help="the program that fetches")
    parser.add_argument(
        "--maven-option", action="append", default=[], help="passed on to it, such as --settings=FILE for a mirror"
    )
    parser.add_argument("--javac", default="javac", help="the compiler")
    arguments = parser.parse_args(argv)
    try:
        parts = read_parts(PARTS.read_text())
        with tempfile.TemporaryDirectory() as directory:
            work = pathlib.Path(directory)
            fetch(parts, work, arguments.maven, arguments.maven_option)
            files = contents(verify(parts, work), shim(arguments.javac, work))
        checksum = pack(files, arguments.output)
    except (BuildError, OSError) as exc:
        print(f"The lab's log store is not built: {exc}", file=sys.stderr)
        return 1
    print(f"{arguments.output}\nsha256 {checksum}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
