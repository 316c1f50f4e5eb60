# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role dcgm_exporter: the list of fields, the unit with and without rights, versions that belong together."""

from __future__ import annotations

import csv
import re
from typing import Any

import pytest
from rendering import Role

OWN: dict[str, Any] = {
    "dcgm_exporter_repository_uri": "https://mirror.example.com/cuda/debian13/x86_64/",
    "dcgm_exporter_repository_key": "-----BEGIN PGP PUBLIC KEY BLOCK-----\n",
}
# Fields that alerts and dashboards of the collection are made of.
NEEDED = {
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_SM_CLOCK",
    "DCGM_FI_DEV_XID_ERRORS",
    "DCGM_EXP_XID_ERRORS_COUNT",
}


def role(instances: int = 0, **changes: Any) -> Role:
    bus = {"nvidia": {"count": 1, "mig_instances": instances, "loaded_version": "580.95.05"}, "summary": "one"}
    return Role("dcgm_exporter", {}, __dcgm_exporter_bus=bus, **changes)


def fields(made: Role) -> dict[str, str]:
    """The list as the exporter reads it: three columns, comments begin with #."""
    lines = [line for line in made.file("fields.csv.j2").splitlines() if not line.startswith("#")]
    rows = [[cell.strip(" ") for cell in row] for row in csv.reader(lines) if row]
    assert all(len(row) == 3 for row in rows)
    assert len({row[0] for row in rows}) == len(rows)
    assert {row[1] for row in rows} <= {"gauge", "counter", "histogram", "summary", "label"}
    return {row[0]: row[1] for row in rows}


def unit(made: Role) -> str:
    return made.file("dcgm-exporter.service.j2")


def test_the_list_has_what_alerts_and_dashboards_need() -> None:
    assert set(fields(role())) >= NEEDED
    assert fields(role())["DCGM_FI_DRIVER_VERSION"] == "label"


@pytest.mark.parametrize(
    ("wanted", "instances", "measured"),
    [("auto", 0, False), ("auto", 3, True), ("always", 0, True), ("never", 3, False)],
)
def test_divided_gpus_are_measured_inside(wanted: str, instances: int, measured: bool) -> None:
    made = role(instances, dcgm_exporter_profiling=wanted)
    assert ("DCGM_FI_PROF_GR_ENGINE_ACTIVE" in fields(made)) is measured
    assert set(fields(made)) >= NEEDED
    text = unit(made)
    # Rights only where that is measured, and then no others.
    assert f"User={'root' if measured else 'dcgm-exporter'}\n" in text
    assert ("CapabilityBoundingSet=CAP_SYS_ADMIN\n" in text) is measured
    assert "AmbientCapabilities=\n" in text
    packages = made.value("{{ __dcgm_exporter_wanted }}")
    assert ("datacenter-gpu-manager-4-proprietary" in packages) is measured


def test_a_field_of_the_operator_takes_the_place_of_the_same_one() -> None:
    made = role(
        dcgm_exporter_fields_extra=[
            {"name": "DCGM_FI_DEV_GPU_TEMP", "type": "gauge", "help": "Ours."},
            {"name": "DCGM_FI_DEV_SERIAL", "type": "label", "help": "Number of the card."},
        ]
    )
    assert fields(made)["DCGM_FI_DEV_SERIAL"] == "label"
    assert "DCGM_FI_DEV_GPU_TEMP, gauge, Ours.\n" in made.file("fields.csv.j2")
    assert made.refusals() == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dcgm_exporter_fields_extra": [{"name": "gpu_temp", "type": "gauge", "help": "x"}]}, "gpu_temp"),
        (
            {"dcgm_exporter_fields_extra": [{"name": "DCGM_FI_DEV_X", "type": "gauge", "help": "a, b"}]},
            "has a comma",
        ),
        (
            {"dcgm_exporter_fields": [{"name": "DCGM_FI_DEV_X", "type": "gauge", "help": "a"}] * 2},
            "stands there twice",
        ),
        ({**OWN, "dcgm_exporter_repository_key": ""}, "dcgm_exporter_repository_key"),
        (
            {
                **OWN,
                "nvidia_gpu_source": "nvidia",
                "nvidia_gpu_repository_uri": OWN["dcgm_exporter_repository_uri"],
            },
            "leave it empty",
        ),
        ({**OWN, "dcgm_exporter_archives": [{"url": "https://x.example.com/a.deb", "sha256": "0" * 64}]}, "not both"),
        ({"dcgm_exporter_archives": [{"url": "https://x.example.com/a.deb", "sha256": "abc"}]}, "64 hexadecimal"),
        ({"dcgm_exporter_interval": 0}, "dcgm_exporter_interval"),
    ],
)
def test_what_cannot_work_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    (refusal,) = role(**changes).refusals()
    assert named in refusal
    assert role().refusals() == []


def test_it_listens_on_loopback_and_the_unit_of_the_package_is_masked() -> None:
    made = role()
    assert "--address 127.0.0.1:9400 " in unit(made)
    assert "IPAddressDeny=any\nIPAddressAllow=localhost\n" in unit(made)
    files = {item["path"]: item for item in made.value("{{ __dcgm_exporter_service.files }}")}
    assert files["/etc/systemd/system/nvidia-dcgm-exporter.service"]["target"] == "/dev/null"


def test_an_engine_elsewhere_needs_no_device() -> None:
    own, local, far = (
        unit(role(instances=2, dcgm_exporter_hostengine=where)) for where in ("", "localhost:5555", "192.0.2.9:5555")
    )
    assert "DeviceAllow=char-nvidia* rw\n" in own
    assert "--remote-hostengine-info" not in own
    for text in (local, far):
        assert "PrivateDevices=true\n" in text
        assert "DeviceAllow" not in text
        assert "User=dcgm-exporter\n" in text
    assert "IPAddressAllow=192.0.2.9\n" in far


def pins(made: Role) -> dict[str, re.Pattern[str]]:
    """Which versions may come, by package."""
    text = made.file("preferences.j2")
    return {
        name.split()[0]: re.compile(pattern)
        for name, pattern in re.findall(r"^Package: (.+)\nPin: version /(.+)/\nPin-Priority: 990$", text, re.M)
    }


def test_versions_come_in_pairs() -> None:
    made = role()
    found = pins(made)
    dcgm, exporter = found["datacenter-gpu-manager-4-*"], found["datacenter-gpu-manager-exporter"]
    assert [bool(dcgm.search(text)) for text in ("1:4.5.3-1", "4.5.3-1", "1:4.5.31-1", "1:4.6.0-1", "1:14.5.3-1")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert [bool(exporter.search(text)) for text in ("4.8.2-1", "4.8.2", "4.8.20-1", "4.8.2.1-1")] == [
        True,
        True,
        False,
        False,
    ]
    assert made.file("preferences.j2").count("Pin: version *\nPin-Priority: -1\n") == 2
    assert pins(role(dcgm_exporter_version="", dcgm_exporter_dcgm_version="")) == {}


def test_nothing_else_comes_from_its_own_repository() -> None:
    text = role(**OWN).file("preferences.j2")
    assert 'Package: *\nPin: origin "mirror.example.com"\nPin-Priority: 100\n' in text
    assert "Pin: origin" not in role().file("preferences.j2")


def test_archives_take_the_place_of_a_repository() -> None:
    made = role(dcgm_exporter_archives=[{"url": "https://x.example.com/a.deb", "sha256": "0" * 64}])
    assert made.value("{{ __dcgm_exporter_service.packages }}") == []
