"""Releases with a fault: the lock that is shipped and one more wheel, which breaks what a file on the node names.

The wheel holds one module and a `.pth` file, which Python runs whenever it starts. It acts in the process that its
fault is about and in no other, so that such a release can be built and looked at like any other. The release without
the wheel does not look at the file. Building takes minutes, so one release has all faults, and without the file none.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.drills.core import ROOT, DrillError, Lab

LOCKS = ROOT / "roles/langflow/files"
ON_HOST = "/var/lib/flowfleet-drills"
# Wheels bear a date, and a release is named by what it is made of: the same fault is the same release.
DATE = (2026, 1, 1, 0, 0, 0)

MODULE = "flowfleet_drill"
SOURCE = '''
"""A fault on purpose, for a drill."""
import os
import sys

CHOICE = "/var/lib/flowfleet-drills/fault"


def runs(name):
    """Whether this process is it, and not the guard that starts it."""
    words = [os.path.basename(word) for word in sys.orig_argv]
    return name in words and "schema_guard.py" not in words


def chosen():
    try:
        with open(CHOICE) as stream:
            return stream.read().strip()
    except FileNotFoundError:
        return "none"


def meet(before):
    """Let every request that is no health check meet the fault first."""
    import starlette.applications

    original = starlette.applications.Starlette.__call__

    async def call(self, scope, receive, send):
        if scope["type"] == "http" and not scope["path"].startswith("/health"):
            if await before(send):
                return
        await original(self, scope, receive, send)

    starlette.applications.Starlette.__call__ = call


async def fail(send):
    """Every fifth request."""
    import random

    if random.random() >= 0.2:
        return False
    body = b'{"detail":"a fault on purpose"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return True


async def wait(send):
    """Every request, and then it goes on."""
    import asyncio

    await asyncio.sleep(0.3)
    return False


def stay_down():
    sys.stderr.write("drill: this release does not boot\\n")
    os._exit(3)


def break_migration():
    """Fail after some steps, as a migration does that meets data which nobody expected."""
    from alembic.runtime import migration

    original = migration.HeadMaintainer.update_to_step
    done = []

    def update(self, step):
        done.append(step)
        if len(done) > 5:
            raise RuntimeError("drill: this migration fails at its sixth step")
        return original(self, step)

    migration.HeadMaintainer.update_to_step = update


def migrate_nothing():
    """End well without having done anything."""
    os._exit(0)


# What each fault does, and the program that it does it in.
FAULTS = {
    "boot": ("gunicorn", stay_down),
    "errors": ("gunicorn", lambda: meet(fail)),
    "slow": ("gunicorn", lambda: meet(wait)),
    "migration": ("migration", break_migration),
    "idle-migration": ("migration", migrate_nothing),
}

program, act = FAULTS.get(chosen(), ("", None))
if act and runs(program):
    act()
'''
NONE = "none"
FAULTS = (NONE, "boot", "errors", "slow", "migration", "idle-migration")


def record_line(name: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"


def make_wheel() -> tuple[str, bytes]:
    """Name and content of the wheel; always the same bytes."""
    info = f"{MODULE}-1.0.0.dist-info"
    files = {
        f"{MODULE}.py": SOURCE.lstrip(),
        f"{MODULE}.pth": f"import {MODULE}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {MODULE.replace('_', '-')}\nVersion: 1.0.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: drills\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(record_line(name, text.encode()) for name, text in files.items()) + (
        f"{info}/RECORD,,\n"
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name, DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text)
    return f"{MODULE}-1.0.0-py3-none-any.whl", buffer.getvalue()


def make_lock(shipped: str, wheel: str, content: bytes) -> str:
    """The shipped lock with one more package, which lies on the hosts."""
    name = wheel.split("-", 1)[0].replace("_", "-")
    digest = hashlib.sha256(content).hexdigest()
    return f"{shipped.rstrip()}\n{name} @ file://{ON_HOST}/{wheel} \\\n    --hash=sha256:{digest}\n"


@dataclass(frozen=True)
class Release:
    """A release by its version and its lock on the controller."""

    version: str
    lock: Path

    @property
    def options(self) -> Sequence[str]:
        """What a playbook takes to install it."""
        return ("-e", f"langflow_version={self.version}", "-e", f"langflow_requirements_file={self.lock}")


def shipped(version: str) -> Release:
    """The release as the collection has it."""
    return Release(version, LOCKS / f"requirements-{version}.txt")


def publish(lab: Lab, version: str, folder: Path) -> Release:
    """The same with the wheel: write its lock, and bring the wheel to every node."""
    wheel, content = make_wheel()
    folder.mkdir(parents=True, exist_ok=True)
    local = folder / wheel
    local.write_bytes(content)
    lock = folder / f"requirements-{version}.txt"
    lock.write_text(make_lock(shipped(version).lock.read_text(), wheel, content))
    for node in lab.nodes:
        lab.inside(node, "install", "-d", "-m", "0755", ON_HOST)
        lab.run(["docker", "cp", "-q", str(local), f"{node}:{ON_HOST}/{wheel}"])
        lab.inside(node, "chmod", "0644", f"{ON_HOST}/{wheel}")
    return Release(version, lock)


def choose(lab: Lab, fault: str) -> None:
    """From its next start on, the release with the wheel has this fault on every node."""
    if fault not in FAULTS:
        raise DrillError(f"there is no fault {fault}; there are {', '.join(FAULTS)}")
    for node in lab.nodes:
        lab.inside(node, "install", "-d", "-m", "0755", ON_HOST)
        lab.inside(node, "sh", "-c", f"echo {fault} > {ON_HOST}/fault && chmod 0644 {ON_HOST}/fault")
