# SPDX-License-Identifier: Apache-2.0
"""
slim-cni under a container runtime: podman, with its storage, its state and its configuration in a directory of
the test's. A container is busybox over a directory.
"""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from conftest import PATIENCE, ROOT, wait_until
from remote import Remote

BUILD = pathlib.Path(os.environ.get("SLIM_BUILD") or ROOT / "build").resolve()
BUSYBOX = "/bin/busybox"

pytestmark = pytest.mark.skipif(not shutil.which("podman") or not os.path.exists(BUSYBOX),
                                reason="podman or busybox is not installed")

# crun does not take a machine that has cgroup2 beside cgroup1's file systems.
UNIFIED = """
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    mount --make-rprivate /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit
fi
exec "$@"
"""


class Podman:
    def __init__(self, lab, host, directory):
        self.lab, self.host, self.dir = lab, host, directory
        self.rootfs = directory / "rootfs"
        for d in ("rootfs/bin", "rootfs/etc", "rootfs/proc", "rootfs/sys", "rootfs/dev",
                  "rootfs/tmp", "rootfs/run", "net", "plugins"):
            (directory / d).mkdir(parents=True)
        shutil.copy2(BUSYBOX, self.rootfs / "bin")
        (self.rootfs / "index.html").write_text("hello\n")
        (directory / "plugins/slim-cni").symlink_to(BUILD / "src/cni/slim-cni")
        (directory / "net/pods.conflist").write_text(json.dumps({
            "cniVersion": "1.0.0", "name": "pods",
            "plugins": [{"type": "slim-cni", "runDir": f"/run/slim-lab/{lab.id}/{host}/run",
                         "portsHeld": True,
                         "capabilities": {"ips": True, "portMappings": True}}]}))
        (directory / "containers.conf").write_text(f"""
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[network]
network_backend = "cni"
cni_plugin_dirs = ["{directory}/plugins"]
network_config_dir = "{directory}/net"
default_network = "pods"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
""")

    def __call__(self, *words, check=True):
        done = subprocess.run(
            self.lab.command("host", self.host, "--", "env",
                             f"CONTAINERS_CONF={self.dir}/containers.conf", "unshare", "--mount",
                             "--propagation", "unchanged", "sh", "-c", UNIFIED, "sh", "podman",
                             "--root", self.dir / "root", "--runroot", self.dir / "runroot",
                             "--tmpdir", self.dir / "tmp", "--storage-driver", "vfs", *words),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            timeout=2 * PATIENCE)
        assert done.returncode == 0 or not check, done.stderr
        return done

    @contextlib.contextmanager
    def container(self, name, *options):
        """A web server, and its address."""
        self("run", "--detach", "--name", name, "--security-opt", "seccomp=unconfined", *options,
             "--rootfs", self.rootfs, "/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/")
        try:
            yield json.loads(self("inspect", name).stdout)[0]["NetworkSettings"]["Networks"]["pods"][
                "IPAddress"]
        finally:
            self("rm", "--force", "--time", "0", name)

    def get(self, name, address):
        """What a container gets from a web server, without a resolver, which a static program lacks."""
        return self("exec", name, "/bin/busybox", "sh", "-c",
                    f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc {address} 80"
                    ).stdout.replace("\r", "").partition("\n\n")[2]


GET = """
import urllib.request
def get(address):
    return urllib.request.urlopen(f"http://{address}/", timeout=20).read()
"""

SERVE = """
import http.server, os
os.chdir('/proc/self/task')
s = http.server.ThreadingHTTPServer(('', 80), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=s.serve_forever, daemon=True).start()
"""


def names(lab):
    return [e["name"] for e in lab.ctl("h1", "endpoint", "ls")["endpoints"]]


@pytest.fixture
def podman(lab):
    with tempfile.TemporaryDirectory(prefix="slim-podman") as path:  # podman wants a short one
        podman = Podman(lab, "h1", pathlib.Path(path))
        alone = podman("run", "--rm", "--network", "none", "--security-opt", "seccomp=unconfined",
                       "--rootfs", podman.rootfs, "/bin/busybox", "true", check=False)
        if alone.returncode != 0:
            pytest.skip(f"podman runs no container here, with no network: {alone.stderr.strip()[-200:]}")
        yield podman


def test_podman(lab, podman):
    with Remote.slim(lab, "h2", "slim") as slim, podman.container("web", "--publish", "8080:80") as web, \
            podman.container("other", "--ip", "10.77.150.5") as other:
        slim.do(GET + SERVE)
        assert other == "10.77.150.5" and {"web", "other", "slim"} == set(names(lab))
        endpoint = lab.ctl("h2", "endpoint", "show", "web")["endpoint"]
        assert (endpoint["address"], endpoint["host"], endpoint["kind"]) == (web, "h1", "plain")
        assert slim(f"get('{web}')") == slim(f"get('{other}')") == b"hello\n"
        assert slim("get('192.0.2.1:8080')") == b"hello\n"
        assert podman.get("web", other) == podman.get("other", web) == "hello\n"
        assert "Directory listing" in podman.get("web", lab.ip("slim"))
        lab.verb("daemon", "h1", "kill")
        assert slim(f"get('{web}')") == b"hello\n" and podman.get("other", web) == "hello\n"
        lab.verb("daemon", "h1", "start")
        assert {"web", "other", "slim"} == set(names(lab))
        assert slim(f"get('{web}')") == b"hello\n" and podman.get("other", web) == "hello\n"
        assert slim("get('192.0.2.1:8080')") == b"hello\n"
        done = podman("run", "--rm", "--ip", "10.77.150.5", "--security-opt", "seccomp=unconfined",
                      "--rootfs", podman.rootfs, "/bin/busybox", "true", check=False)
        assert done.returncode != 0 and "10.77.150.5 is taken" in done.stderr
    wait_until(lambda: names(lab) == [], "all of them to go")
    links = subprocess.run(["ip", "-n", f"slim-{lab.id}-h1", "-j", "link"], check=True,
                           stdout=subprocess.PIPE, text=True).stdout
    assert "slim-vxlan" in links and not [
        link for link in json.loads(links) if link["ifname"].startswith("slim") and
        link["ifname"] != "slim-vxlan"]
