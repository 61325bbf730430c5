# SPDX-License-Identifier: Apache-2.0
"""
What a container may look at: interface ioctls on swapped and on its own sockets, /proc/net, netlink,
ss. Everything is the container's own, nothing the host's; and what sets something needs the rights
that it needs anywhere.
"""

import errno
import json
import os
import pathlib
import signal
import subprocess

import pytest

from conftest import wait_until
from remote import PYTHON, Remote

IOCTLTABLE = pathlib.Path(__file__).with_name("ioctltable.py")

CODE = r"""
import array, ctypes, fcntl, glob
LIBC = ctypes.CDLL(None, use_errno=True)
TCP, TCP6 = socket.socket(), socket.socket(socket.AF_INET6)
UDP = socket.socket(type=socket.SOCK_DGRAM)

def ask(s, number, name, rest=b''):
    # An ioctl with a struct ifreq: what is behind the name afterwards, or an errno's name.
    try:
        return fcntl.ioctl(s, number, struct.pack('16s24s', name.encode(), rest))[16:]
    except OSError as e:
        return errno.errorcode[e.errno]

def conf(s, room=4096):
    buffer = array.array('B', bytes(room))
    used = struct.unpack('iP', fcntl.ioctl(s, 0x8912, struct.pack('iP', room,
                                                                  buffer.buffer_info()[0])))[0]
    b = buffer.tobytes()
    return [(b[i:i + 16].rstrip(b'\0').decode(), socket.inet_ntoa(b[i + 20:i + 24]))
            for i in range(0, used, 40)]

def ethtool(s, command, size, name='eth0'):
    data = ctypes.create_string_buffer(struct.pack('I', command), size)
    request = ctypes.create_string_buffer(struct.pack('16sP', name.encode(), ctypes.addressof(data)),
                                          40)
    if LIBC.ioctl(s.fileno(), 0x8946, ctypes.byref(request)) < 0:
        return errno.errorcode[ctypes.get_errno()]
    return data.raw

def netns(s):
    fd = fcntl.ioctl(s, 0x894c)
    try:
        return os.fstat(fd).st_ino, fcntl.fcntl(fd, fcntl.F_GETFD)
    finally:
        os.close(fd)

def as_user(uid, code):
    # In a child, which has a user's ids and none of root's capabilities.
    r, w = os.pipe()
    if os.fork() == 0:
        os.setgid(uid); os.setuid(uid)
        os.write(w, repr(eval(code)).encode())
        os._exit(0)
    os.close(w)
    os.wait()
    with os.fdopen(r) as f:
        return eval(f.read())
"""


@pytest.fixture(scope="module")
def web(lab):
    with Remote.slim(lab, "h1", "web") as r:
        r.do(CODE)
        yield r


def links(lab, host="h1"):
    """The host's interfaces and addresses, as it sees them itself."""
    return json.loads(lab.host(host, "ip", "-j", "address").stdout)


# --- the same as natively -------------------------------------------------------------------------


def test_every_number_as_the_kernel_says(lab):
    """10,000 calls, on every kind of socket: the same answers in a container without Slim."""
    address = lab.ip("table")
    slim = json.loads(lab.run("h1", "table", PYTHON, IOCTLTABLE, address).stdout)
    plain = json.loads(lab.plain("h1", "table", PYTHON, IOCTLTABLE, address).stdout)
    assert len(slim) > 10000 and slim.keys() == plain.keys()
    assert {k: (plain[k], slim[k]) for k in plain if plain[k] != slim[k]} == {}
    # And they were answers.
    assert slim["tcp 0x8915 eth0"][1].endswith("<own>" + 32 * "0")
    assert slim["tcp 0x8933 uplink"][0] == "ENODEV"


def test_interfaces_and_addresses(lab, web):
    own = lab.ip("web")
    for s in "TCP", "TCP6", "UDP":
        assert web(f"conf({s})") == [("lo", "127.0.0.1"), ("eth0", own)]
        assert web(f"conf({s}, 79)") == [("lo", "127.0.0.1")]  # as many as have room
        assert web(f"ask({s}, 0x8933, 'eth0')[:4]") == b"\2\0\0\0"
        assert web(f"ask({s}, 0x8933, 'uplink')") == "ENODEV"
        assert web(f"ask({s}, 0x8933, 'slim-vxlan')") == "ENODEV"
        assert web(f"ask({s}, 0x8927, 'eth0')[2:8].hex()") == "02511e000003"
    assert web("socket.inet_ntoa(ask(TCP, 0x8915, 'eth0')[4:8])") == own
    assert web("socket.if_nameindex()") == [(1, "lo"), (2, "eth0")]
    # A socket with a connection has no more to tell than a fresh one.
    web.do("l = listen('127.0.0.1', 9100); a = connect('127.0.0.1', 9100); b = l.accept()[0]")
    assert web("[conf(s) for s in (l, a, b)]") == 3 * [web("conf(UDP)")]
    web.do("a.close(); b.close(); l.close()")


def test_ethtool(web):
    assert web("ethtool(TCP, 0x3, 196)[4:8]") == b"veth"  # ETHTOOL_GDRVINFO
    assert web("ethtool(UDP, 0x3, 196)") == web("ethtool(TCP, 0x3, 196)")
    assert web("ethtool(TCP, 0xa, 8)[4:]") == b"\1\0\0\0"  # ETHTOOL_GLINK
    assert web("ethtool(TCP, 0x3, 196, 'uplink')") == "ENODEV"
    assert web("ethtool(TCP, 0x1d, 196)") == "ENOTSUP"  # ETHTOOL_GSTATS: how long is not told
    # ETHTOOL_GLINKSETTINGS, in its two steps.
    words = -int.from_bytes(web("ethtool(TCP, 0x4c, 4096)[15:16]"), "little", signed=True)
    assert words > 0
    web.do("def settings(s):\n"
           "    data = ctypes.create_string_buffer(struct.pack('I11xb', 0x4c, %d), 4096)\n"
           "    request = ctypes.create_string_buffer(\n"
           "        struct.pack('16sP', b'eth0', ctypes.addressof(data)), 40)\n"
           "    assert LIBC.ioctl(s.fileno(), 0x8946, ctypes.byref(request)) == 0\n"
           "    return data.raw" % words)
    assert web("struct.unpack_from('I', settings(TCP), 4)") == (10000,)  # a veth's speed
    assert web("settings(TCP)") == web("settings(UDP)")


def test_programs(lab, web):
    """The old tools, which ask by ioctl, by their own socket and by a swapped one as descriptor 0."""
    shown = web("subprocess.run(['ifconfig', '-a'], stdout=-1, text=True).stdout")
    assert lab.ip("web") in shown and "uplink" not in shown and "192.0.2." not in shown
    assert "169.254.1.1" in web("subprocess.run(['arp', '-n'], stdout=-1, text=True).stdout")
    web.do("subprocess.run(['ifconfig', 'lo:7', '127.7.7.7', 'netmask', '255.0.0.0'], check=True)")
    assert "127.7.7.7" in web("subprocess.run(['ip', 'a'], stdout=-1, text=True).stdout")
    web.do("subprocess.run(['ifconfig', 'lo:7', 'down'], check=True)")
    assert "127.7.7.7" not in web("subprocess.run(['ip', 'a'], stdout=-1, text=True).stdout")
    web.do("subprocess.run(['route', 'add', '-host', '198.51.100.7', 'dev', 'eth0'], check=True)")
    assert "198.51.100.7" in web("subprocess.run(['ip', 'r'], stdout=-1, text=True).stdout")
    web.do("subprocess.run(['route', 'del', '-host', '198.51.100.7', 'dev', 'eth0'], check=True)")


# --- what sets something --------------------------------------------------------------------------


def test_settings_are_the_containers(lab, web):
    before = links(lab)
    for s, mtu in (("TCP", 1300), ("UDP", 1350), ("TCP6", 1400)):
        assert web(f"ask({s}, 0x8922, 'eth0', struct.pack('i', {mtu}))") != "EPERM"
        assert int(web("open('/sys/class/net/eth0/mtu').read()")) == mtu
    # `lo` is there in both namespaces: it is not the host's that is set.
    assert isinstance(web("ask(TCP, 0x8922, 'lo', struct.pack('i', 40000))"), bytes)
    assert int(web("open('/sys/class/net/lo/mtu').read()")) == 40000
    assert web("ask(TCP, 0x8922, 'uplink', struct.pack('i', 1300))") == "ENODEV"
    assert links(lab) == before


def test_who_may_set(lab, web):
    for s in "TCP", "UDP":
        assert web(f"as_user(1000, \"ask({s}, 0x8922, 'eth0', struct.pack('i', 1200))\")") == "EPERM"
        # A user who looks may look.
        assert web(f"as_user(1000, \"ask({s}, 0x8933, 'eth0')[:4]\")") == b"\2\0\0\0"
    assert web("as_user(1000, \"ask(socket.socket(), 0x8914, 'eth0')\")") == "EPERM"


def test_a_root_of_another_user_namespace_may_not(lab, web):
    """All capabilities, but over its own user namespace: not over the container's network."""
    code = ("import fcntl, socket, struct\n"
            "for s in socket.socket(), socket.socket(type=socket.SOCK_DGRAM):\n"
            "    try:\n"
            "        fcntl.ioctl(s, 0x8922, struct.pack('16si20x', b'eth0', 1200))\n"
            "        print('done')\n"
            "    except OSError as e: print(e.errno)\n")
    said = web(f"subprocess.run(['unshare', '-Ur', sys.executable, '-c', {code!r}], stdout=-1,"
               "text=True).stdout.split()")
    assert said == 2 * [str(errno.EPERM)]
    # With a network of its own, it may there, and not on a socket that it has from outside.
    code = ("import fcntl, socket, struct\n"
            "def mtu(s):\n"
            "    try: fcntl.ioctl(s, 0x8922, struct.pack('16si20x', b'lo', 50000))\n"
            "    except OSError as e: return e.errno\n"
            "    return open('/proc/self/net/dev') and 'done'\n"
            "print(mtu(socket.socket()), mtu(socket.socket(fileno=%d)))\n")
    web.do("TCP.set_inheritable(True)")
    fd = web("TCP.fileno()")
    said = web(f"subprocess.run(['unshare', '-Urn', sys.executable, '-c', {code % fd!r}],"
               "stdout=-1, text=True, close_fds=False).stdout.split()")
    assert said == ["done", str(errno.EPERM)]


def test_the_network_namespace_of_a_socket(web):
    """SIOCGSKNS is a way to every namespace that a socket is in."""
    own = web("os.stat('/proc/self/ns/net').st_ino")
    for s in "TCP", "TCP6", "UDP":
        assert web(f"netns({s})") == (own, 1)  # FD_CLOEXEC
    web.do("def no_netns(s):\n"
           "    try: return netns(s)\n"
           "    except OSError as e: return errno.errorcode[e.errno]")
    assert web("as_user(1000, 'no_netns(TCP)')") == "EPERM"


def test_a_nested_namespace(lab, web):
    """A container that unshares: its own sockets there are of that namespace, as natively."""
    code = ("import fcntl, os, socket, struct\n"
            "s = socket.socket()\n"
            "fd = fcntl.ioctl(s, 0x894c)\n"
            "print(os.fstat(fd).st_ino == os.stat('/proc/self/ns/net').st_ino, socket.if_nameindex())\n"
            "fcntl.ioctl(s, 0x8922, struct.pack('16si20x', b'lo', 60000))\n"
            "print(open('/proc/net/dev').read().count(':'))")
    said = web(f"subprocess.run(['unshare', '-n', sys.executable, '-c', {code!r}], stdout=-1,"
               "text=True).stdout")
    assert said.split("\n")[0].startswith("True [(1, 'lo')")
    assert int(web("open('/sys/class/net/lo/mtu').read()")) != 60000


# --- other ways to call ---------------------------------------------------------------------------


COMPAT = r"""
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
/* int $0x80: the 32-bit ABI, from a 64-bit program, on a socket that the 64-bit one has. */
static long call32(long nr, long a, long b, long c)
{
        long r;
        __asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(a), "c"(b), "d"(c)
                         : "memory", "r8", "r9", "r10", "r11");
        return r;
}
int main(void)
{
        char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        unsigned int *conf = (unsigned int *)(low + 1024);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        long r;
        strcpy(low, "uplink");
        printf("%ld ", call32(54, fd, 0x8933, (long)low));
        strcpy(low, "eth0");
        r = call32(54, fd, 0x8933, (long)low);
        printf("%ld %d ", r, *(int *)(low + 16));
        conf[0] = 1024;
        conf[1] = (unsigned int)(unsigned long)(low + 2048);
        r = call32(54, fd, 0x8912, (long)conf);
        printf("%ld %u %s %s ", r, conf[0], low + 2048, low + 2048 + 32);
        printf("%ld\n", call32(54, fd, 0x8946, (long)low));
        return 0;
}
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="int 0x80 is x86's")
def test_by_the_32_bit_abi(web, tmp_path):
    (tmp_path / "compat.c").write_text(COMPAT)
    program = str(tmp_path / "compat")
    subprocess.run(["cc", "-o", program, str(tmp_path / "compat.c")], check=True)
    said = web(f"subprocess.run(['{program}'], stdout=-1, text=True).stdout.split()")
    if int(said[0]) == -errno.ENOSYS:
        pytest.skip("this kernel has no 32-bit ABI")
    assert said == [str(-errno.ENODEV), "0", "2", "0", "64", "lo", "eth0", str(-errno.EOPNOTSUPP)]


def test_a_descriptor_that_is_exchanged(web):
    """While one thread asks, another one exchanges the descriptor: no answer is ever the host's."""
    web.do("import itertools\n"
           "t, u, fd = socket.socket(), socket.socket(type=socket.SOCK_DGRAM), os.dup(0)\n"
           "over = False\n"
           "def exchange():\n"
           "    for s in itertools.cycle((t, u)):\n"
           "        if over: return\n"
           "        os.dup2(s.fileno(), fd)\n"
           "x = threading.Thread(target=exchange); x.start()\n"
           "try:\n"
           "    seen = {str(ask(fd, 0x8933, 'uplink')) for _ in range(3000)}\n"
           "finally:\n"
           "    over = True; x.join(); os.close(fd); t.close(); u.close()")
    assert web("seen") <= {"ENODEV", "ENOTTY"} and "ENODEV" in web("seen")


# --- views that are not ioctls --------------------------------------------------------------------


def test_proc_net_and_netlink(lab, web):
    """The host has a listener and connections; the container's views have none of them."""
    with Remote.host(lab, "h1") as host:
        host.do("l = socket.create_server(('192.0.2.1', 9199)); c = connect('192.0.2.1', 9199)")
        web.do("s = listen('0.0.0.0', 9198); q = connect('127.0.0.1', 9198)")
        needles = ["uplink", "slim-vxlan", "192.0.2.", "%X" % 9199, "010200C0", ":9199"]
        for path in ("/proc/net", "/proc/self/net"):
            text = web(f"''.join(open(p, errors='replace').read() for p in glob.glob('{path}/*')\n"
                       "        if os.path.isfile(p) and os.access(p, os.R_OK)\n"
                       "        and p.rsplit('/', 1)[1] not in ('ptype', 'rt6_stats', 'unix'))")
            assert not [n for n in needles if n in text], path
            assert "eth0" in text
        text = web("''.join(subprocess.run(w, stdout=-1, text=True).stdout for w in"
                   " (['ss', '-natue'], ['ip', 'address'], ['ip', 'route'], ['ip', 'neigh']))")
        assert not [n for n in needles if n in text]
        # The link of a swapped socket is that of any socket.
        assert web("os.readlink(f'/proc/self/fd/{s.fileno()}')") == web(
            "f'socket:[{os.fstat(s.fileno()).st_ino}]'")
        assert web("{n for n in os.listdir('/sys/class/net')}") == {"lo", "eth0"}
        web.do("s.close(); q.close()")
        host.do("l.close(); c.close()")


def test_connections_of_one_container(lab, web):
    """`slimctl connection ls --name`: its own view of what ss cannot show it."""
    with Remote.slim(lab, "h1", "other") as other:
        web.do("s = listen('0.0.0.0', 9197)")
        other.do("s = listen('0.0.0.0', 9196)")

        def of(name):
            return lab.ctl("h1", "connection", "ls", "--name", name)["connections"]

        assert {c["endpoint"] for c in of("web")} == {"web"}
        assert {c["local"] for c in of("web")} >= {"0.0.0.0:9197"}
        assert {c["local"] for c in of("other")} == {"0.0.0.0:9196"}
        assert of("nobody") == []
        web.do("s.close()")


# --- brokers that die -----------------------------------------------------------------------------


def test_brokers_killed_under_ioctls_cost_no_call(lab, web):
    def broker():
        return lab.ctl("h1", "endpoint", "show", "web")["endpoint"]["broker_pid"]

    web.do("done, stop, bad = 0, False, []\n"
           "def work():\n"
           "    global done\n"
           "    while not stop:\n"
           "        for said in (ask(TCP, 0x8933, 'eth0')[:4], ask(TCP, 0x8933, 'uplink')):\n"
           "            if said not in (b'\\2\\0\\0\\0', 'ENODEV'): bad.append(said)\n"
           "        if not isinstance(ask(TCP, 0x8922, 'eth0', struct.pack('i', 1420)), bytes):\n"
           "            bad.append('mtu')\n"
           "        done += 1\n"
           "fds = len(os.listdir('/proc/self/fd'))\n"
           "worker = threading.Thread(target=work); worker.start()")
    try:
        for _ in range(5):
            before, pid = web("done"), broker()
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda p=pid: broker() not in (0, p), "another broker")
            wait_until(lambda n=before: web("done") > n + 5, "calls to be answered")
    finally:
        web.do("stop = True; worker.join()")
    assert web("bad") == []
    assert web("len(os.listdir('/proc/self/fd'))") == web("fds")
