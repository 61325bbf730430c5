# SPDX-License-Identifier: Apache-2.0
"""
Debian 12's own kernel, in QEMU, over this machine's file system (read-only).

The kernel is fetched as a package and unpacked below build/kernel; nothing of it is installed. QEMU
emulates the processor. In the guest /run, /tmp and /var/lib are empty and go with it.
"""

import glob
import os
import re
import shlex
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
WORK = f"{ROOT}/build/kernel"
GUEST_OWN = ["run", "tmp", "var/lib"]  # what the guest writes to

# The root file system's transport; everything else is loaded in the guest.
EARLY_MODULES = ["virtio_pci", "9pnet_virtio", "9p"]
MODULES = ["veth", "vxlan", "bridge", "sch_ingress", "cls_bpf", "act_bpf", "nf_tables",
           "nft_chain_nat", "nft_masq", "tcp_diag", "inet_diag"]

INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
for m in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$m; done
if ! /bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro root /root
then echo "no root file system"; /bin/busybox poweroff -f; fi
/bin/busybox mount -t proc proc /root/proc
/bin/busybox mount -t sysfs sys /root/sys
/bin/busybox mount -t devtmpfs dev /root/dev
/bin/busybox mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
for d in {own}; do /bin/busybox mount -t tmpfs tmpfs /root/$d; done
exec /bin/busybox switch_root /root /bin/sh {script}
"""

GUEST = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
cd {root}
for m in {modules}; do modprobe -d {unpacked} $m || echo "module $m: missing"; done
mkdir -p /dev/shm; mount -t tmpfs tmpfs /dev/shm
ip link set lo up
echo "kernel $(uname -r)"
status=0
{commands}
echo "guest-status $status"
sleep 1
exec busybox poweroff -f
"""


def _sh(*argv, **kw):
    return subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE, **kw).stdout


def _fetch_kernel():
    """Unpacks the newest 6.1 kernel package; the directory that it is in."""
    found = glob.glob(f"{WORK}/root/boot/vmlinuz-*")
    if not found:
        names = re.findall(r"^(linux-image-6\.1\.0-\d+-amd64) ",
                           _sh("apt-cache", "search", r"^linux-image-6\.1\.0-[0-9]+-amd64$"), re.M)
        if not names:
            sys.exit("apt-cache knows no linux-image-6.1.0-N-amd64: apt-get update")
        newest = max(names, key=lambda n: int(n.split("-")[3]))
        os.makedirs(WORK, exist_ok=True)
        _sh("apt-get", "download", newest, cwd=WORK)
        _sh("dpkg", "-x", glob.glob(f"{WORK}/{newest}_*.deb")[0], f"{WORK}/root")
        found = glob.glob(f"{WORK}/root/boot/vmlinuz-*")
    version = os.path.basename(found[0]).removeprefix("vmlinuz-")
    _sh("depmod", "-b", f"{WORK}/root", version)
    return found[0], version


def _make_initramfs(version, script):
    tree = f"{WORK}/initramfs"
    shutil.rmtree(tree, ignore_errors=True)
    for d in ("bin", "modules", "proc", "root"):
        os.makedirs(f"{tree}/{d}")
    shutil.copy("/bin/busybox", f"{tree}/bin/busybox")
    order = []
    for module in EARLY_MODULES:
        for line in _sh("modprobe", "-d", f"{WORK}/root", "-S", version, "--show-depends",
                        module).splitlines():
            path = line.split()[1]
            name = os.path.basename(path)
            if line.startswith("insmod") and name not in order:
                shutil.copy(path, f"{tree}/modules/{name}")
                order.append(name)
    with open(f"{tree}/modules/order", "w", encoding="ascii") as f:
        f.write("\n".join(order) + "\n")
    with open(f"{tree}/init", "w", encoding="ascii") as f:
        f.write(INIT.format(own=" ".join(GUEST_OWN), script=shlex.quote(script)))
    os.chmod(f"{tree}/init", 0o755)
    image = f"{WORK}/initramfs.gz"
    _sh("sh", "-c", f"find . | cpio -o -H newc 2>/dev/null | gzip > {shlex.quote(image)}", cwd=tree)
    return image


def run(commands, limit, processor=("-accel", "tcg,thread=multi", "-smp", "2"), parameters=""):
    """
    Runs lines of shell, which may set `status`, in the guest; what it says, line by line. The last of
    them is "guest-status N", unless the guest was cut off after `limit` seconds. processor: QEMU's
    options for what it has of them. parameters: of the kernel.
    """
    for hidden in GUEST_OWN:
        if f"{ROOT}/".startswith(f"/{hidden}/"):
            sys.exit(f"{ROOT} is not to be seen in the guest, which has a /{hidden} of its own: put the "
                     "tree elsewhere")
    kernel, version = _fetch_kernel()
    script = f"{WORK}/guest.sh"
    with open(script, "w", encoding="utf-8") as f:
        f.write(GUEST.format(root=shlex.quote(ROOT), modules=" ".join(MODULES),
                             unpacked=shlex.quote(f"{WORK}/root"), commands=commands))
    argv = ["qemu-system-x86_64", *processor, "-cpu", "max", "-m", "2048", "-nographic", "-no-reboot",
            "-nodefaults", "-serial", "stdio", "-kernel", kernel,
            "-initrd", _make_initramfs(version, script), "-append", f"console=ttyS0 quiet panic=-1 {parameters}",
            "-net", "none", "-virtfs",
            "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"]
    with subprocess.Popen(["timeout", str(limit), *argv], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace") as guest:
        for line in guest.stdout:
            yield line.rstrip("\r\n")
