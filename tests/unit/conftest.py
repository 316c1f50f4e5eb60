# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all unit tests share.

C(pytest) in a plain checkout is enough: the checkout is made importable as the collection it holds, wherever it lies.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.machinery
import importlib.util
import ipaddress
import json
import os
import pathlib
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
NAMESPACE = f"ansible_collections.{GALAXY['namespace']}"
COLLECTION = f"{NAMESPACE}.{GALAXY['name']}"


def _make_package(name: str, own: list[pathlib.Path]) -> None:
    """Register I(name) as a package whose modules are found in I(own), then in what is installed."""
    tail = pathlib.Path(*name.split("."))
    installed = [pathlib.Path(entry) / tail for entry in sys.path]
    spec = importlib.machinery.ModuleSpec(name, loader=None, is_package=True)
    spec.submodule_search_locations = [str(path) for path in [*own, *installed] if path.is_dir()]
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    parent, _dot, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


if COLLECTION not in sys.modules:
    for package, places in (("ansible_collections", []), (NAMESPACE, []), (COLLECTION, [ROOT])):
        _make_package(package, places)


# --- modules ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _module_arguments(arguments: dict[str, Any]) -> Iterator[None]:
    try:
        from ansible.module_utils.testing import patch_module_args
    except ImportError:  # ansible-core 2.18
        from ansible.module_utils import basic

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
            yield
    else:
        with patch_module_args(arguments):
            yield


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> Callable[..., dict[str, Any]]:
    """Call C(main) of a module with arguments, and get its result as a play would."""

    def run(module: Any, arguments: dict[str, Any], *, check: bool = False, diff: bool = False) -> dict[str, Any]:
        internal = {"_ansible_check_mode": check, "_ansible_diff": diff, "_ansible_remote_tmp": str(tmp_path)}
        with _module_arguments({**arguments, **internal}), pytest.raises(SystemExit) as ended:
            module.main()
        result = json.loads(capsys.readouterr().out)
        assert bool(result.get("failed")) == bool(ended.value.code)
        return result

    return run


@pytest.fixture(scope="session")
def collections_path(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory that C(ANSIBLE_COLLECTIONS_PATH) can name to find this checkout."""
    base = tmp_path_factory.mktemp("collections")
    parent = base / "ansible_collections" / GALAXY["namespace"]
    parent.mkdir(parents=True)
    (parent / GALAXY["name"]).symlink_to(ROOT)
    return base


@pytest.fixture(scope="session")
def ansible_playbook(collections_path: pathlib.Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the program in a directory, with this checkout as the installed collection and nobody's settings."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}

    def run(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {
            "ANSIBLE_COLLECTIONS_PATH": str(collections_path),
            "ANSIBLE_INJECT_FACT_VARS": "false",
            "ANSIBLE_LOCAL_TEMP": str(folder / ".ansible"),
            "ANSIBLE_REMOTE_TEMP": str(folder / ".ansible"),
            "ANSIBLE_RETRY_FILES_ENABLED": "false",
            "ANSIBLE_NOCOLOR": "true",
            "LC_ALL": "C.UTF-8",
        }
        return subprocess.run(
            [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), *arguments],
            cwd=folder,
            env={**own, **settings},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


@pytest.fixture
def play(
    tmp_path: pathlib.Path, ansible_playbook: Callable[..., subprocess.CompletedProcess[str]]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a playbook on this machine, as a user would, and get what it printed."""

    def run(
        tasks: list[dict[str, Any]], *options: str, roles: list[Any] | None = None, **variables: Any
    ) -> subprocess.CompletedProcess[str]:
        book = {"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": tasks}
        if roles:
            book["roles"] = roles
        (tmp_path / "play.yml").write_text(yaml.safe_dump([book], sort_keys=False), encoding="utf-8")
        inventory = tmp_path / "hosts"
        if not inventory.exists():
            inventory.write_text(
                f"localhost ansible_connection=local ansible_python_interpreter={sys.executable}\n", encoding="utf-8"
            )
        return ansible_playbook(tmp_path, "--inventory", str(inventory), str(tmp_path / "play.yml"), *options)

    return run


# --- servers that misbehave on purpose --------------------------------------------------------------------------------

Behaviour = Callable[[socket.socket], None]


SEEN: list[bytes] = []


LENGTH = re.compile(rb"^content-length: *(\d+)\r$", re.IGNORECASE | re.MULTILINE)


def _read_request(connection: socket.socket) -> bytes:
    """Read all of it: to close with something unread would reset the connection, and take back the answer."""
    data, wanted = b"", 0
    while b"\r\n\r\n" not in data or len(data) < wanted:
        chunk = connection.recv(4096)
        if not chunk:
            break
        data += chunk
        head, end, _body = data.partition(b"\r\n\r\n")
        if end:
            length = LENGTH.search(head + b"\r\n")
            wanted = len(head) + len(end) + (int(length[1]) if length else 0)
    SEEN.append(data)
    return data


class Behaviours:
    """What a server can do with one connection."""

    @staticmethod
    def answer(status: int = 200, body: bytes = b"ok", announced: int | None = None) -> Behaviour:
        """Answer properly, or announce more than is sent."""

        def behave(connection: socket.socket) -> None:
            _read_request(connection)
            length = len(body) if announced is None else announced
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode() + body)

        return behave

    @staticmethod
    def silence(seconds: float = 5.0) -> Behaviour:
        """Accept and say nothing."""

        def behave(connection: socket.socket) -> None:
            _read_request(connection)
            time.sleep(seconds)

        return behave

    @staticmethod
    def drip(seconds: float = 5.0) -> Behaviour:
        """Send one byte of a header now and then, always before any timeout of a single read."""

        def behave(connection: socket.socket) -> None:
            _read_request(connection)
            end = time.monotonic() + seconds
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while time.monotonic() < end:
                connection.sendall(b"x")
                time.sleep(0.05)

        return behave

    @staticmethod
    def reset() -> Behaviour:
        """Break the connection without saying goodbye."""

        def behave(connection: socket.socket) -> None:
            _read_request(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        return behave

    @staticmethod
    def half_close() -> Behaviour:
        """Close the sending side at once and keep the other open."""

        def behave(connection: socket.socket) -> None:
            connection.shutdown(socket.SHUT_WR)
            _read_request(connection)

        return behave

    @staticmethod
    def garbage() -> Behaviour:
        """Speak another protocol."""

        def behave(connection: socket.socket) -> None:
            connection.sendall(b"+PONG\r\n\r\n")
            _read_request(connection)

        return behave


class FakeServer:
    """Treats the first connection with the first behaviour and so on; the last one stays."""

    def __init__(self, *behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.behaviours = list(behaviours) or [Behaviours.answer()]
        self.connections = 0
        self.names: list[str | None] = []
        self._tls = tls
        if tls is not None:
            tls.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def url(self, path: str = "/health_check") -> str:
        """Where it listens."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}{path}"

    def _serve(self) -> None:
        while True:
            try:
                connection, _peer = self._listener.accept()
            except OSError:
                return
            behave = self.behaviours[min(self.connections, len(self.behaviours) - 1)]
            self.connections += 1
            threading.Thread(target=self._treat, args=(connection, behave), daemon=True).start()

    def _treat(self, connection: socket.socket, behave: Behaviour) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            behave(connection)
        connection.close()

    def close(self) -> None:
        """Stop listening: from now on connections are refused."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def behaviours() -> type[Behaviours]:
    """The list of things a server can do."""
    return Behaviours


@pytest.fixture
def requests_seen() -> list[bytes]:
    """What the fake servers of this test were asked."""
    SEEN.clear()
    return SEEN


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeServer]]:
    """Start servers that are gone after the test."""
    started: list[FakeServer] = []

    def start(*behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> FakeServer:
        started.append(FakeServer(*behaviours, tls=tls))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


# --- certificates -----------------------------------------------------------------------------------------------------


class Authority:
    """A small certificate authority, strict enough for Python 3.13."""

    def __init__(self, directory: pathlib.Path) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        self.directory = directory
        self._x509 = x509
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
        self._new_key = lambda: ec.generate_private_key(ec.SECP256R1())
        own = self._sign(self._name, self._key.public_key(), authority=True)
        self.path = directory / "ca.crt"
        self.path.write_bytes(self._pem(own))

    @staticmethod
    def _pem(thing: Any) -> bytes:
        from cryptography.hazmat.primitives import serialization

        return bytes(thing.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject: Any, public_key: Any, *, authority: bool, names: Any = ()) -> Any:
        from cryptography.hazmat.primitives import hashes

        x509 = self._x509
        now = datetime.datetime.now(datetime.UTC)
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        usage.update(digital_signature=not authority, key_cert_sign=authority, crl_sign=authority)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def server_context(self, *names: str) -> ssl.SSLContext:
        """The server side of TLS with a certificate for I(names)."""
        from cryptography.hazmat.primitives import serialization

        x509 = self._x509
        key = self._new_key()
        alternatives = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        certificate = self._sign(x509.Name([]), key.public_key(), authority=False, names=alternatives)
        path = self.directory / f"{names[0]}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + self._pem(certificate)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One authority for the whole run."""
    return Authority(tmp_path_factory.mktemp("authority"))


# --- systemd ----------------------------------------------------------------------------------------------------------


class FakeSystemd:
    """As much of systemd as the plugins talk to: one unit, and a list of what it was told to do."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.now = time.time()
        self.properties: dict[str, str] = {}
        self.script: dict[str, Callable[[], None]] = {}
        self.on_show: Callable[[], None] | None = None
        self.set_state("inactive", "dead")
        self.properties.update(
            LoadState="loaded", UnitFileState="enabled", NeedDaemonReload="no", NRestarts="0", CanReload="yes"
        )

    @staticmethod
    def stamp(moment: float) -> str:
        """A time as C(systemctl show --timestamp=us+utc) prints it."""
        when = datetime.datetime.fromtimestamp(moment, datetime.UTC)
        return when.strftime("%a %Y-%m-%d %H:%M:%S.%f UTC")

    def set_state(self, active: str, sub: str) -> None:
        """Change the state only."""
        self.properties.update(ActiveState=active, SubState=sub)

    def run(self, since: float | None = None) -> None:
        """The unit's process starts."""
        moment = time.time() if since is None else since
        self.set_state("active", "running")
        self.properties.update(
            MainPID="4711",
            ExecMainStartTimestamp=self.stamp(moment),
            InactiveExitTimestamp=self.stamp(moment),
            ActiveEnterTimestamp=self.stamp(moment),
            InvocationID=f"{moment:.6f}-{len(self.calls)}",
            Result="success",
        )

    def __call__(self, *arguments: str, timeout: float = 60.0) -> str:
        """Stand in for C(systemctl)."""
        verb = arguments[0]
        if verb == "show":
            if self.on_show is not None:
                self.on_show()
            return "".join(f"{key}={value}\n" for key, value in self.properties.items())
        self.calls.append(verb)
        if verb in self.script:
            self.script[verb]()
        elif verb in ("start", "restart"):
            self.run()
        elif verb == "daemon-reload":
            self.properties["NeedDaemonReload"] = "no"
        elif verb in ("enable", "disable"):
            self.properties["UnitFileState"] = f"{verb}d"
        return ""


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> FakeSystemd:
    """A systemd that exists in memory only."""
    module = importlib.import_module(f"{COLLECTION}.plugins.module_utils._systemd")
    fake = FakeSystemd()
    monkeypatch.setattr(module, "systemctl", fake)
    monkeypatch.setattr(module, "STAMPS", str(tmp_path / "stamps"))
    keeper = importlib.import_module(f"{COLLECTION}.plugins.module_utils._rolling_restart")
    monkeypatch.setattr(keeper, "SETTLE", 0.01)
    return fake
