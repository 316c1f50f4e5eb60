#!/bin/sh
# Runs once inside a plain Debian root and turns it into a lab host: what an installed Debian server has, and
# nothing that the roles install. Check mode is tested on hosts that lack the services.
set -eu
here=$(dirname "$0")
export DEBIAN_FRONTEND=noninteractive

# The machine's apt sources, settings and CAs, when `tools/lab` found any: a lab must install what its machine can.
if [ -s "$here/apt/sources.list" ]; then
  rm -f /etc/apt/sources.list.d/*
  install -m 0644 "$here/apt/sources.list" /etc/apt/sources.list.d/lab.list
  rm -f /etc/apt/sources.list
fi
install -m 0644 "$here/apt/90lab.conf" /etc/apt/apt.conf.d/90lab
mkdir -p /usr/local/share/ca-certificates
find "$here/ca" -name '*.crt' -exec install -m 0644 -t /usr/local/share/ca-certificates {} +

apt-get update -qq
# shellcheck disable=SC2046 # one word per line, on purpose
apt-get install -y -qq --no-install-recommends $(cat "$here/packages") >/dev/null
apt-get clean
update-ca-certificates >/dev/null

# Units that need a kernel or a console of their own.
systemctl -q mask systemd-udevd.service systemd-udev-trigger.service systemd-modules-load.service \
  systemd-binfmt.service systemd-firstboot.service proc-sys-fs-binfmt_misc.automount \
  sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
  dev-hugepages.mount getty@.service console-getty.service
# Nothing may hold apt's lock behind a play's back.
systemctl -q mask apt-daily.timer apt-daily-upgrade.timer

# Every host makes its own ssh host keys at its first start.
rm -f /etc/ssh/ssh_host_*
mkdir -p /etc/systemd/system/ssh.service.d
cat >/etc/systemd/system/ssh.service.d/host-keys.conf <<'UNIT'
[Service]
ExecStartPre=
ExecStartPre=/usr/bin/ssh-keygen -A
ExecStartPre=/usr/sbin/sshd -t
UNIT

# A host starts with no package index and one that is old: a cache_valid_time must not trust an empty folder.
rm -rf /var/lib/apt/lists/*
touch -d @0 /var/lib/apt/lists
# The same for the machine id: each host makes its own.
: >/etc/machine-id
install -m 0755 "$here/lab-init" /lab-init
