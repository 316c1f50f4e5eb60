"""Releases with a fault: the lock that is shipped and one more wheel, which breaks what its name says.

The wheel holds one module and a `.pth` file, which Python runs whenever it starts. It acts in the process that its
fault is about and in no other, so that such a release can be built and looked at like any other. A different fault is
a different wheel, hence a different lock, hence a different release.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.drills.core import ROOT, Lab

LOCKS = ROOT / "roles/langflow/files"
ON_HOST = "/var/lib/flowfleet-drills"
# Wheels bear a date, and a release is named by what it is made of: the same fault is the same release.
DATE = (2026, 1, 1, 0, 0, 0)

COMMON = '''
"""A fault on purpose, for a drill."""
import os
import sys


def runs(name):
    """Whether this process is it, and not the guard that starts it."""
    words = [os.path.basename(word) for word in sys.orig_argv]
    return name in words and "schema_guard.py" not in words
'''

ASGI = '''

def patch(before):
    """Let every request that is no health check meet the fault first."""
    import starlette.applications

    original = starlette.applications.Starlette.__call__

    async def call(self, scope, receive, send):
        if scope["type"] == "http" and not scope["path"].startswith("/health"):
            if await before(send):
                return
        await original(self, scope, receive, send)

    starlette.applications.Starlette.__call__ = call
'''

FAULTS = {
    # Nothing: a release that differs in its name only.
    "none": "",
    "boot": '\nif runs("gunicorn"):\n    sys.stderr.write("drill: this release does not boot\\n")\n    os._exit(3)\n',
    "errors": ASGI
    + """
async def fail(send):
    import random

    if random.random() >= 0.2:
        return False
    body = b'{"detail":"a fault on purpose"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return True


if runs("gunicorn"):
    patch(fail)
""",
    "slow": ASGI
    + """
async def wait(send):
    import asyncio

    await asyncio.sleep(0.3)
    return False


if runs("gunicorn"):
    patch(wait)
""",
    "migration": '''
def patch():
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


if runs("migration"):
    patch()
''',
}


def record_line(name: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"


def make_wheel(fault: str, number: int = 0) -> tuple[str, bytes]:
    """Name and content of a wheel with a fault; the same arguments give the same bytes."""
    module = f"flowfleet_drill_{fault}"
    version = f"1.0.{number}"
    info = f"{module}-{version}.dist-info"
    source = COMMON + FAULTS[fault] + f"\nNUMBER = {number}\n"
    files = {
        f"{module}.py": source.lstrip(),
        f"{module}.pth": f"import {module}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: {version}\n",
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
    return f"{module}-{version}-py3-none-any.whl", buffer.getvalue()


def make_lock(shipped: str, wheel: str, content: bytes) -> str:
    """The shipped lock with one more package, which lies on the hosts."""
    name = wheel.split("-", 1)[0].replace("_", "-")
    digest = hashlib.sha256(content).hexdigest()
    return f"{shipped.rstrip()}\n{name} @ file://{ON_HOST}/{wheel} \\\n    --hash=sha256:{digest}\n"


@dataclass(frozen=True)
class BadRelease:
    """A lock on the controller, whose wheel lies on the hosts."""

    fault: str
    version: str
    lock: Path

    @property
    def options(self) -> Sequence[str]:
        """What a playbook takes to install it."""
        return ("-e", f"langflow_version={self.version}", "-e", f"langflow_requirements_file={self.lock}")


def publish(lab: Lab, fault: str, version: str, folder: Path, number: int = 0) -> BadRelease:
    """Write the lock, and bring the wheel to every node."""
    wheel, content = make_wheel(fault, number)
    folder.mkdir(parents=True, exist_ok=True)
    local = folder / wheel
    local.write_bytes(content)
    lock = folder / f"requirements-{version}-{fault}-{number}.txt"
    lock.write_text(make_lock((LOCKS / f"requirements-{version}.txt").read_text(), wheel, content))
    for node in lab.nodes:
        lab.inside(node, "install", "-d", "-m", "0755", ON_HOST)
        lab.run(["docker", "cp", "-q", str(local), f"{node}:{ON_HOST}/{wheel}"])
        lab.inside(node, "chmod", "0644", f"{ON_HOST}/{wheel}")
    return BadRelease(fault, version, lock)
