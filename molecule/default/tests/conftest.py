"""The cluster as the tests see it: hosts over ssh, and its front door."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
from ansible.plugins.loader import init_plugin_loader
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]
SCENARIO = os.environ.get("MOLECULE_SCENARIO_NAME", "default")
OWN_INVENTORY = ROOT / "molecule" / SCENARIO / "inventory"
INVENTORY = (
    OWN_INVENTORY if OWN_INVENTORY.is_dir() else ROOT / "inventories" / {"default": "lab"}.get(SCENARIO, SCENARIO)
)

# What this repository's tools know already.
sys.path.insert(0, str(ROOT / "tools"))
HEALTHY = importlib.import_module("node_health").COMMAND

# Molecule wants colours; what is read by a program must have none.
os.environ.pop("ANSIBLE_FORCE_COLOR", None)
os.environ["ANSIBLE_NOCOLOR"] = "1"
os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", str(ROOT / ".cache/collections"))
# Makes ansible_collections.flowfleet.langflow importable: the tests speak to Langflow with the collection's own client.
init_plugin_loader([str(ROOT / ".cache/collections")])


def pytest_configure(config: pytest.Config) -> None:
    """Leave a report for `make test`, which adds up what all phases ran."""
    if not config.option.xmlpath:
        reports = ROOT / ".lab/reports"
        reports.mkdir(parents=True, exist_ok=True)
        config.option.xmlpath = str(reports / f"molecule-{SCENARIO}.xml")


@dataclass(frozen=True)
class Play:
    """How a run of ansible-playbook ended."""

    status: int
    output: str

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """ok, changed, failed and so on of every host."""
        rows = re.findall(r"^(\S+) +: (ok=.*)$", self.output, re.M)
        return {host: {key: int(n) for key, n in re.findall(r"(\w+)=(\d+)", rest)} for host, rest in rows}

    def tasks_with(self, word: str) -> list[str]:
        """The tasks that have a line beginning with a word, such as `changed`."""
        found, task = [], ""
        for line in self.output.splitlines():
            if line.startswith("TASK ["):
                task = line.split("]")[0].removeprefix("TASK [")
            elif line.startswith(f"{word}: "):
                found.append(f"{task} {line.removeprefix(word).split(' => ')[0]}")
        return found


@dataclass(frozen=True)
class Cluster:
    """Groups, addresses and variables of the inventory; a connection to each host."""

    groups: dict[str, list[str]]
    hosts: dict[str, Host]

    def one(self, group: str) -> Host:
        return self.hosts[self.groups[group][0]]

    def all(self, group: str) -> list[Host]:
        return [self.hosts[name] for name in self.groups[group]]

    def address(self, name: str) -> str:
        return str(self.variable("ansible_host", name))

    def variable(self, name: str, host: str = "") -> Any:
        """A variable as Ansible sees it on a host."""
        return self.template(f"{{{{ {name} }}}}", host)

    def template(self, text: str, host: str = "") -> Any:
        """A template as Ansible renders it on a host."""
        argv = ["ansible", "-i", str(INVENTORY), host or self.groups["loadbalancers"][0], "-m", "ansible.builtin.debug"]
        argv += ["-a", json.dumps({"msg": text})]
        output = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        return json.loads(output[output.index("{") :])["msg"]


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    argv = ["ansible-inventory", "-i", str(INVENTORY), "--list"]
    inventory = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    groups = {name: value.get("hosts", []) for name, value in inventory.items() if name != "_meta"}
    names = sorted({host for hosts in groups.values() for host in hosts})
    config = ROOT / ".lab/ssh_config"
    return Cluster(groups, {name: testinfra.get_host(f"ssh://{name}", ssh_config=str(config)) for name in names})


@pytest.fixture(scope="session")
def playbook() -> Callable[..., Play]:
    """Run one of the collection's playbooks."""

    def run(name: str, *options: str) -> Play:
        argv = ["ansible-playbook", "-i", str(INVENTORY), f"flowfleet.langflow.{name}", *options]
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        return Play(done.returncode, done.stdout)

    return run


def ask(host: str, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a module of the collection returns when it is called by hand."""
    argv = ["ansible", "-i", str(INVENTORY), host, "-m", f"flowfleet.langflow.{module}"]
    if arguments:
        argv += ["-a", json.dumps(arguments)]
    output = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    assert "=> {" in output, output
    return dict(json.loads(output[output.index("{") :]))


@pytest.fixture(scope="session")
def ca(cluster: Cluster) -> Path:
    """The cluster's own authority, as the controller has it."""
    return Path(str(cluster.variable("langflow_fleet_pki_dir"))) / "ca.crt"


@pytest.fixture(scope="session")
def domain(cluster: Cluster) -> str:
    return str(cluster.variable("langflow_fleet_domain"))


@pytest.fixture(scope="session")
def front(cluster: Cluster, ca: Path, domain: str) -> Callable[..., Any]:
    """A new client of the front door."""
    from ansible_collections.flowfleet.langflow.plugins.module_utils._langflow_api import Endpoint, LangflowClient

    address = cluster.address(cluster.groups["loadbalancers"][0])

    def connect(timeout: float = 60, name: str = domain, agent: str = "tests") -> Any:
        return LangflowClient(Endpoint(f"https://{address}", str(ca), name, timeout, agent))

    return connect


@pytest.fixture(scope="session")
def flow(front: Callable[..., Any], cluster: Cluster) -> Iterator[tuple[str, str, Callable[[str, str], str]]]:
    """A flow that works without any model, and a key to run it: (API key, identifier of the flow, expected output)."""
    from ansible_collections.flowfleet.langflow.plugins.module_utils import _langflow_smoke as smoke

    user = str(cluster.template("{{ langflow_superuser | default('admin') }}"))
    password = str(cluster.template("{{ lookup('flowfleet.langflow.secret', 'langflow_superuser_password') }}"))
    client, report, run_id = front(), smoke.Report("tests"), smoke.new_run_id()
    plan = json.loads((ROOT / "playbooks/files/flows/smoke.json").read_text())
    try:
        key = smoke.sign_in(client, report, run_id, user, password)
        yield key, smoke.import_flow(client, report, run_id, plan), smoke.expected_output
    finally:
        smoke.clean_up(client, report, run_id, user, password)
