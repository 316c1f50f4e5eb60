# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write what no exporter knows of a host, in the text format of Prometheus. Standard library only."""

from __future__ import annotations

import argparse
import os
import platform
import re
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

REBOOT_FLAGS = (Path("/run/reboot-required"), Path("/run/needs-restarting"))
KERNELS = Path("/boot")
OPENSSL = "/usr/bin/openssl"


def escaped(text: str) -> str:
    """Return a text as the value of a label."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def end_of(certificate: Path) -> float | None:
    """Return when a certificate ends, the first one of its file; nothing if it cannot be read."""
    done = subprocess.run(
        [OPENSSL, "x509", "-noout", "-enddate", "-in", str(certificate)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    _name, _equals, when = done.stdout.strip().partition("=")
    if done.returncode != 0 or not when:
        return None
    return float(ssl.cert_time_to_seconds(when))


def certificates(directory: Path) -> Iterator[str]:
    """Yield the ends of all certificates of the directory."""
    yield "# HELP flowfleet_certificate_expiry_timestamp_seconds When a certificate of this host ends."
    yield "# TYPE flowfleet_certificate_expiry_timestamp_seconds gauge"
    unreadable = []
    for path in sorted(directory.glob("*.crt")):
        end = end_of(path)
        if end is None:
            unreadable.append(path.stem)
        else:
            yield f'flowfleet_certificate_expiry_timestamp_seconds{{name="{escaped(path.stem)}"}} {end:.0f}'
    yield "# HELP flowfleet_certificates_unreadable Certificates whose end cannot be told."
    yield "# TYPE flowfleet_certificates_unreadable gauge"
    yield f"flowfleet_certificates_unreadable {len(unreadable)}"


def version_key(name: str) -> list[tuple[int, int, str]]:
    """Order names of kernels as people do: 6.1.0-9 stands before 6.1.0-10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|[^\d]+", name)]


def waits_for_reboot(kernels: Path, running: str, flags: Sequence[Path]) -> bool:
    """Return whether a package asked for a reboot, or a newer kernel of the running flavour is installed."""
    if any(flag.exists() for flag in flags):
        return True
    flavour = running.rpartition("-")[2]
    installed = [path.name.partition("-")[2] for path in kernels.glob("vmlinuz-*")]
    same = [name for name in installed if name.rpartition("-")[2] == flavour]
    return bool(same) and max(same, key=version_key) != running


def reboot(kernels: Path, running: str, flags: Sequence[Path]) -> Iterator[str]:
    """Yield whether this host waits for a reboot."""
    yield "# HELP flowfleet_reboot_required Whether this host waits for a reboot."
    yield "# TYPE flowfleet_reboot_required gauge"
    yield f"flowfleet_reboot_required {int(waits_for_reboot(kernels, running, flags))}"


def release(link: Path) -> Iterator[str]:
    """Yield the release that the link leads to, if there is one."""
    if not link.is_symlink():
        return
    name = Path(os.readlink(link)).name
    yield "# HELP flowfleet_release_info The release of Langflow that is active on this host."
    yield "# TYPE flowfleet_release_info gauge"
    yield f'flowfleet_release_info{{release="{escaped(name)}",version="{escaped(name.partition("-")[0])}"}} 1'


def gateway(backends: Path, maintenance: Path) -> Iterator[str]:
    """Yield which backends of the load balancer were taken out, and whether it answers for all of them itself."""
    if not backends.is_dir():
        return
    yield "# HELP flowfleet_gateway_backend_drained Whether somebody has taken a backend out of the load balancer."
    yield "# TYPE flowfleet_gateway_backend_drained gauge"
    for path in sorted(backends.glob("*.conf")):
        lines = path.read_text(encoding="utf-8").splitlines()
        out = any(re.match(r"\s*server\s.*\sdown\s*;", line) for line in lines)
        yield f'flowfleet_gateway_backend_drained{{backend="{escaped(path.stem)}"}} {int(out)}'
    yield "# HELP flowfleet_gateway_maintenance Whether the load balancer answers for all backends itself."
    yield "# TYPE flowfleet_gateway_maintenance gauge"
    yield f"flowfleet_gateway_maintenance {int(maintenance.exists())}"


def write(lines: Sequence[str], target: Path) -> None:
    """Replace the file at once, so that nobody reads half of it."""
    fresh = target.with_name(target.name + ".new")
    fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(target)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certificates", type=Path, required=True)
    parser.add_argument("--release", type=Path, required=True)
    parser.add_argument("--backends", type=Path, required=True)
    parser.add_argument("--maintenance", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    lines = [
        *certificates(given.certificates),
        *reboot(KERNELS, platform.release(), REBOOT_FLAGS),
        *release(given.release),
        *gateway(given.backends, given.maintenance),
        "# HELP flowfleet_host_metrics_last_run_timestamp_seconds When these figures were written.",
        "# TYPE flowfleet_host_metrics_last_run_timestamp_seconds gauge",
        f"flowfleet_host_metrics_last_run_timestamp_seconds {time.time():.0f}",
    ]
    write(lines, given.output)


if __name__ == "__main__":
    main()
