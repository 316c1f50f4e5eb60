"""A real machine for what a container cannot do: its own kernel, disks and boot, emulated by QEMU without KVM."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

from tools.drills.core import ROOT, DrillError, say

PLACE = ROOT / ".lab/vm"
CODENAME = "trixie"
PACKAGES = (
    "ca-certificates", "curl", "dbus", "e2fsprogs", "initramfs-tools", "iproute2", "libpam-systemd",
    "linux-image-cloud-amd64", "openssh-server", "procps", "python3", "python3-apt", "sudo", "systemd-resolved",
    "systemd-sysv", "udev",
)  # fmt: skip
NETWORK = "[Match]\nType=ether\n[Network]\nDHCP=yes\n"
# Emulated hardware is slow: nothing may give up because of it.
SLOW = "[Manager]\nDefaultTimeoutStartSec=600\nDefaultDeviceTimeoutSec=600\n"
FSTAB = "/dev/vda / ext4 rw,relatime 0 1\n"
SETTLED = {"running", "degraded"}
# Seconds an emulated machine may take to go down, on a computer that has other work.
SHUTDOWN = 900


def lab_tool() -> ModuleType:
    """The program `tools/lab`, whose knowledge of this machine's package sources serves here too."""
    name = "tool_lab"
    loader = SourceFileLoader(name, str(ROOT / "tools/lab"))
    spec = spec_from_loader(name, loader)
    if spec is None:
        raise DrillError("tools/lab cannot be read")
    module = module_from_spec(spec)
    sys.modules[name] = module
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = kept
    return module


def call(*argv: str | Path) -> None:
    """Run a program that must succeed."""
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DrillError(f"{argv[0]} failed with {done.returncode}: {(done.stderr or done.stdout)[-800:]}")


def need(program: str, package: str) -> None:
    if shutil.which(program) is None:
        lab = lab_tool()
        if not lab.may_install():
            raise DrillError(f"install {package} first")
        lab.apt_install(package)


def blank(path: Path, megabytes: int) -> Path:
    """A disk of zeros."""
    with path.open("wb") as stream:
        stream.truncate(megabytes * 1024 * 1024)
    return path


def build() -> Path:
    """A folder with root.img, vmlinuz and initrd.img, made anew when its inputs have changed."""
    need("qemu-system-x86_64", "qemu-system-x86")
    need("mmdebstrap", "mmdebstrap")
    lab = lab_tool()
    sources, settings, key = lab.apt_sources(CODENAME), lab.apt_settings(), lab.key().with_suffix(".pub").read_text()
    if not sources:
        raise DrillError("this machine has no Debian apt sources to build a machine from")
    certificates = sorted(Path("/usr/local/share/ca-certificates").rglob("*.crt"))
    inputs = repr((Path(__file__).read_text(), sources, settings, key, [c.read_text() for c in certificates]))
    folder = PLACE / hashlib.sha256(inputs.encode()).hexdigest()[:12]
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(PLACE, ignore_errors=True)
    root = folder / "root"
    folder.mkdir(parents=True)
    (folder / "apt.conf").write_text(settings)
    (folder / "sources.list").write_text(sources)
    began = time.monotonic()
    say("building the machine's root from Debian packages")
    options = ["--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", f"--aptopt={folder / 'apt.conf'}"]
    call("mmdebstrap", *options, CODENAME, root, folder / "sources.list")
    for path, text in {
        "etc/fstab": FSTAB,
        "etc/hostname": "vm1\n",
        "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 vm1\n",
        "etc/systemd/network/lan.network": NETWORK,
        "etc/systemd/system.conf.d/slow.conf": SLOW,
        "etc/apt/apt.conf.d/90lab.conf": settings,
        "root/.ssh/authorized_keys": key,
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True, mode=0o700 if ".ssh" in path else 0o755)
        (root / path).write_text(text)
    # As on a new server: an index so old that it has to be read again.
    shutil.rmtree(root / "var/lib/apt/lists")
    (root / "var/lib/apt/lists").mkdir()
    os.utime(root / "var/lib/apt/lists", (0, 0))
    for certificate in certificates:
        target = root / "usr/local/share/ca-certificates"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(certificate, target / certificate.name)
    call("chroot", root, "update-ca-certificates")
    call("chroot", root, "systemctl", "enable", "systemd-networkd.service", "ssh.service")
    call("chroot", root, "systemctl", "mask", "apt-daily.timer", "apt-daily-upgrade.timer")
    for name in ("vmlinuz", "initrd.img"):
        found = sorted((root / "boot").glob(f"{name}-*"))
        shutil.copyfile(found[-1], folder / name)
    call("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-L", "root", "-d", root, blank(folder / "root.img", 4096))
    shutil.rmtree(root)
    (folder / "complete").touch()
    say(f"built in {time.monotonic() - began:.0f} s")
    return folder


@dataclass
class Machine:
    """One machine with a copy of the root and further disks (/dev/vdb, /dev/vdc, ... in their order)."""

    folder: Path
    disks: Sequence[Path]
    memory: int = 1536
    # A folder that keeps what an emulated TPM knows. None: the machine has no TPM.
    tpm: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    port: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.base = build()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.root = self.folder / "root.img"
        call("cp", "--sparse=always", "--reflink=auto", self.base / "root.img", self.root)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    @property
    def ssh_options(self) -> list[str]:
        """For ssh and Ansible; a machine of our own on the loopback address whose keys are new with every build."""
        master = self.folder / "ssh"
        return [
            "-p", str(self.port), "-i", str(ROOT / ".lab/id_ed25519"), "-o", "IdentitiesOnly=yes",
            "-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}",
            "-o", "ControlMaster=auto", "-o", f"ControlPath={master}", "-o", "ControlPersist=600",
            "-o", "ConnectTimeout=20", "-o", "LogLevel=ERROR",
        ]  # fmt: skip

    def start(self) -> None:
        drives: list[str] = []
        for path in (self.root, *self.disks):
            drives += ["-drive", f"file={path},format=raw,if=virtio,cache=unsafe"]
        argv = [
            "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
            "-m", str(self.memory), "-nographic", "-no-reboot",
            "-kernel", str(self.base / "vmlinuz"), "-initrd", str(self.base / "initrd.img"),
            "-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=5", *drives,
            "-netdev", f"user,id=n0,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net-pci,netdev=n0",
            "-device", "virtio-rng-pci", *self.tpm_options(),
        ]  # fmt: skip
        with (self.folder / "console.log").open("ab") as console:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        began = time.monotonic()
        while self.ssh("systemctl is-system-running", check=False).strip() not in SETTLED:
            if self.process.poll() is not None or time.monotonic() - began > 900:
                raise DrillError(f"the machine did not start; see {os.path.relpath(self.folder, ROOT)}/console.log")
            time.sleep(2)
        say(f"the machine is up after {time.monotonic() - began:.0f} s")

    def tpm_options(self) -> list[str]:
        """Start the emulated TPM, which ends with the machine, and give the options that connect it."""
        if self.tpm is None:
            return []
        need("swtpm", "swtpm")
        self.tpm.mkdir(exist_ok=True)
        control = self.folder / "tpm.sock"
        state, log = f"dir={self.tpm}", f"file={self.folder / 'tpm.log'}"
        call("swtpm", "socket", "--tpm2", "--tpmstate", state, "--ctrl", f"type=unixio,path={control}", "--log", log,
             "--terminate", "--daemon")  # fmt: skip
        return ["-chardev", f"socket,id=tpm,path={control}", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
                "-device", "tpm-tis,tpmdev=tpm0"]  # fmt: skip

    def ssh(self, command: str, check: bool = True, timeout: float = 600) -> str:
        """What a command prints."""
        argv = ["ssh", *self.ssh_options, "root@127.0.0.1", command]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise DrillError(f"no answer to: {command}") from None
        if check and done.returncode:
            raise DrillError(f"{command}: status {done.returncode}: {done.stderr.strip()[-600:]}")
        return done.stdout

    def stop(self) -> None:
        """Shut it down as its administrator would, so that all disks are written."""
        if self.process is None or self.process.poll() is not None:
            return
        self.ssh("sync; systemctl --no-block poweroff", check=False)
        subprocess.run(["ssh", *self.ssh_options, "-O", "exit", "root@127.0.0.1"], capture_output=True, check=False)
        try:
            self.process.wait(SHUTDOWN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise DrillError(f"the machine did not shut down within {SHUTDOWN} s") from None

    def reboot(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def inventory(self, variables: Mapping[str, object]) -> Path:
        """An inventory with this host."""
        import yaml

        host = {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": "root",
            "ansible_ssh_pipelining": True,
            "ansible_ssh_common_args": " ".join(self.ssh_options[2:]),
            "ansible_python_interpreter": "/usr/bin/python3",
            **variables,
        }
        path = self.folder / "hosts.yml"
        path.write_text(yaml.safe_dump({"all": {"hosts": {"vm1": host}}}))
        return path
