# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is, read from a file system made of a few files."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ansible_collections.flowfleet.langflow.plugins.module_utils import _host_state as host_state


def put(root: Path, files: dict[str, str]) -> Path:
    """Write files below a directory."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


def test_operating_system(tmp_path: Path) -> None:
    put(tmp_path, {"etc/os-release": 'PRETTY_NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="24.04"\n'})
    assert host_state.operating_system(tmp_path) == {"id": "ubuntu", "version": "24.04"}


@pytest.mark.parametrize(
    ("limit", "expected"), [("max\n", 2048), (f"{512 * 1024 * 1024}\n", 512), (f"{8192 * 1024 * 1024}\n", 2048)]
)
def test_memory_is_the_smaller_of_host_and_control_group(tmp_path: Path, limit: str, expected: int) -> None:
    put(tmp_path, {"proc/meminfo": "MemTotal:        2097152 kB\nMemFree: 1 kB\n", "sys/fs/cgroup/memory.max": limit})
    assert host_state.memory_mb(tmp_path) == expected


@pytest.mark.parametrize("folder", ["usr/lib/systemd", "usr/lib/x86_64-linux-gnu/systemd"])
def test_systemd_version(tmp_path: Path, folder: str) -> None:
    put(tmp_path, {f"{folder}/libsystemd-shared-252.so": ""})
    assert host_state.systemd_version(tmp_path) == 0, "installed, but not the running init"
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert host_state.systemd_version(tmp_path) == 252


def test_free_space_of_a_directory_that_does_not_exist_yet(tmp_path: Path) -> None:
    (tmp_path / "opt").mkdir()
    assert host_state.free_mb(tmp_path, "/opt/langflow/releases") == host_state.free_mb(tmp_path, "/opt") > 0


def test_listeners_have_port_address_process_and_unit(tmp_path: Path) -> None:
    heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    zeros = "00000000:00000000 00:00000000 00000000     0        0"
    put(
        tmp_path,
        {
            "proc/net/tcp": heading
            + f"   0: 0100007F:1EB4 00000000:0000 0A {zeros} 4242 1\n"
            + f"   1: 0100007F:0050 00000000:0000 01 {zeros} 4243 1\n",
            "proc/net/tcp6": heading + f"   0: {'0' * 24}01000000:01BB {'0' * 32}:0000 0A {zeros} 4244 1\n",
            "proc/77/comm": "gunicorn\n",
            "proc/77/cgroup": "0::/system.slice/langflow.service\n",
        },
    )
    (tmp_path / "proc/77/fd").mkdir()
    (tmp_path / "proc/77/fd/5").symlink_to("socket:[4242]")
    assert host_state.listeners(tmp_path) == [
        {"address": "::1", "port": 443, "process": "", "unit": ""},
        {"address": "127.0.0.1", "port": 7860, "process": "gunicorn", "unit": "langflow.service"},
    ]


def test_a_real_listener_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ("127.0.0.1", port) in {(item["address"], item["port"]) for item in host_state.listeners(Path("/"))}


@pytest.mark.parametrize(
    ("content", "expected"),
    [('{"version": "1.13.0"}', {"version": "1.13.0"}), ("{broken", {"version": "unreadable"}), ("", None)],
)
def test_release(tmp_path: Path, content: str, expected: dict[str, str] | None) -> None:
    put(tmp_path, {"opt/langflow/current/RELEASE.json": content})
    assert host_state.release(tmp_path, "/opt/langflow/current/RELEASE.json") == expected
