# SPDX-License-Identifier: Apache-2.0
"""
Real programs, unmodified, a server on h2 and its client on h1. For each: it works, both ends see
overlay addresses, and neither the VXLAN devices nor the containers' eth0 carried a packet.

What the programs write lies in the lab's own directory, so that it goes with the lab.
"""

import collections
import contextlib
import json
import pathlib
import re
import shutil
import subprocess

import pytest

from conftest import wait_until

POSTGRES = pathlib.Path("/usr/lib/postgresql/15/bin")
BUSYBOX = "/bin/busybox"
PYTHON = "/usr/bin/python3"
HERE = pathlib.Path(__file__).parent

# Runs a client and leaves what the container's own eth0 carried in a file.
COUNTED = """
counts=$1; shift
"$@"; status=$?
cat /sys/class/net/eth0/statistics/rx_packets /sys/class/net/eth0/statistics/tx_packets >"$counts"
exit $status
"""


@pytest.fixture
def place(lab, request):
    """A directory that every user may enter, gone with the lab."""
    path = pathlib.Path("/run/slim-lab") / lab.id / "programs" / request.node.name
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path)


def encapsulated(lab):
    """Packets, both ways, of both hosts' VXLAN devices and of the veths of running containers."""
    packets = {}
    for host in ("h1", "h2"):
        links = json.loads(lab.host(host, "ip", "-j", "-d", "-s", "link").stdout)
        kinds = [link.get("linkinfo", {}).get("info_kind") for link in links]
        assert "vxlan" in kinds
        for link, kind in zip(links, kinds):
            if kind == "vxlan" or (kind == "veth" and link["ifname"] != "uplink"):
                stats = link["stats64"]
                packets[f"{host}/{link['ifname']}"] = (stats["rx"]["packets"]
                                                       + stats["tx"]["packets"])
    return packets


class Client:
    """Runs client programs on h1; every use has an eth0 of its own, which must carry nothing."""

    def __init__(self, lab, place):
        self.lab = lab
        self.counts = place / "eth0"
        self.address = lab.ip("client")
        self.eth0 = 0

    def __call__(self, *argv, **kwargs):
        done = self.lab.run("h1", "client", "/bin/sh", "-c", COUNTED, "sh", self.counts, *argv,
                            **kwargs)
        self.eth0 += sum(map(int, self.counts.read_text().split()))
        return done.stdout

    def python(self, code, *argv):
        return json.loads(self(PYTHON, "-c", code, *argv))


@contextlib.contextmanager
def serving(lab, place, port, *argv):
    """
    A server in a Slim container of its own: (its overlay address, the client, its process). In the
    end nothing may have been encapsulated, and there was one connection at least.
    """
    accepted = lab.ctl("h2", "status")["counters"]["syn_accepted"]
    client = Client(lab, place)
    with lab.start("run", "h2", "server", *argv, cwd=place) as server:
        lab.wait_listening("h2", "server", port)
        # Python's http.server asks the DNS for its name before it listens: UDP, not Slim's.
        before = encapsulated(lab)
        yield lab.ip("server"), client, server
        after = encapsulated(lab)
    moved = {name: packets - before[name] for name, packets in after.items()}
    assert any(name.startswith("h2/") and "vxlan" not in name for name in moved), moved
    assert not any(moved.values()), moved
    assert client.eth0 == 0
    assert lab.ctl("h2", "status")["counters"]["syn_accepted"] > accepted


def log_of(server, line, count=1):
    """The matches of a pattern in a server's output, when there are so many."""
    found = []

    def enough():
        found[:] = re.findall(line, pathlib.Path(server.log).read_text(), re.MULTILINE)
        return len(found) >= count

    wait_until(enough, f"{line!r} in the server's log")
    return found


def address_of(text):
    """An address in the form that a dual-stack program prints, as IPv4."""
    return text.removeprefix("::ffff:")


# --- the counters themselves ----------------------------------------------------------------------


ANSWER = """
import socket
s = socket.create_server(("0.0.0.0", 8080))
print("ready", flush=True)
while True:
    c, _ = s.accept()
    c.recv(4096)
    c.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n")
    c.close()
"""


def test_counters_see_the_encapsulated_path(lab, place):
    """What the other tests take for zero is not zero in a container that is not Slim's."""
    before = encapsulated(lab)
    counts = place / "eth0"
    with lab.start("plain", "h2", "plain-server", PYTHON, "-c", ANSWER, ready="ready"):
        lab.plain("h1", "plain-client", "/bin/sh", "-c", COUNTED, "sh", counts, "curl", "-sS",
                  f"http://{lab.ip('plain-server')}:8080/")
        after = encapsulated(lab)
    for device in ("h1/slim-vxlan", "h2/slim-vxlan"):
        assert after[device] > before[device]
    assert any(packets for name, packets in after.items() if "vxlan" not in name)
    assert all(int(n) > 0 for n in counts.read_text().split())


# --- nginx ----------------------------------------------------------------------------------------

NGINX = """
daemon off;
worker_processes 4;
user nobody nogroup;
error_log {dir}/error.log;
pid {dir}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    log_format ends "$server_port $remote_addr $server_addr $pid $status $body_bytes_sent";
    access_log {dir}/access.log ends;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        listen 8080;
        listen 8081 reuseport;
        root {dir};
        location = /who {{ return 200 "$remote_addr $remote_port $server_addr $server_port"; }}
    }}
}}
"""

# N connections at once; what each socket and nginx's answer on it say.
WHO = """
import http.client, json, sys
address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
clients = [http.client.HTTPConnection(address, port, timeout=30) for _ in range(count)]
seen = []
for c in clients:
    c.connect()
for c in clients:
    name, peer = c.sock.getsockname(), c.sock.getpeername()
    c.request("GET", "/who")
    seen.append([name, peer, c.getresponse().read().decode().split()])
print(json.dumps(seen))
"""


@pytest.mark.parametrize("port", [8080, 8081], ids=["shared", "reuseport"])
def test_nginx(lab, place, port):
    (place / "nginx.conf").write_text(NGINX.format(dir=place))
    (place / "file").write_text("x" * 100_000)
    with serving(lab, place, port, "nginx", "-p", place, "-c", place / "nginx.conf",
                 "-e", place / "error.log") as (server, client, _):
        for name, peer, answer in client.python(WHO, server, port, 64):
            assert name[0] == client.address
            assert peer == [server, port]
            assert answer == [client.address, str(name[1]), server, str(port)]
        for header in ("Connection: keep-alive", "Connection: close"):
            said = client("wrk", "-t1", "-c16", "-d1s", "-H", header, f"http://{server}:{port}/file")
            assert float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]) > 0, said
            # wrk leaves requests unfinished when its time is over; all else is a failure.
            assert "Non-2xx" not in said and "Socket errors" not in said, said
    lines = [line.split() for line in (place / "access.log").read_text().splitlines()]
    assert len(lines) > 64
    assert {tuple(line[:3]) for line in lines} == {(str(port), client.address, server)}
    assert {line[4] for line in lines} == {"200"}
    if port == 8081:
        assert len({line[3] for line in lines}) == 4, "not every worker had connections"


# --- memcached ------------------------------------------------------------------------------------

# Holds a connection and asks the server what it knows of it.
MEMCACHED_ASK = """
import json, socket, sys
s = socket.create_connection((sys.argv[1], 11211), timeout=30)
f = s.makefile("rw", newline="\\r\\n")
def ask(what):
    print(what, file=f, flush=True)
    lines = []
    for line in f:
        if line.startswith("END"):
            return lines
        lines.append(line.split()[1:])
print(json.dumps([s.getsockname(), s.getpeername(), dict(ask("stats")), ask("stats conns")]))
"""


def test_memcached(lab, place):
    (place / "value").write_text("a value of memcached's")
    with serving(lab, place, 11211, "memcached", "-u", "nobody", "-p", 11211, "-U", 0, "-t", 2,
                 "-m", 16) as (server, client, _):
        at = f"--servers={server}:11211"
        said = client("memcslap", at, "--concurrency=8", "--execute-number=500", "--test=get")
        assert re.search(r"Time to get\s+4000 keys by\s+8 threads", said), said
        client("memccp", at, place / "value")
        assert client("memccat", at, "value").strip() == "a value of memcached's"
        stats = client("memcstat", at)
        assert int(re.search(r"get_hits:\s+(\d+)", stats)[1]) >= 4000
        name, peer, stats, conns = client.python(MEMCACHED_ASK, server)
        assert int(stats["total_connections"]) >= 8
        assert name[0] == client.address
        assert peer == [server, 11211]
        seen = {line[1] for line in conns if line[0].endswith((":addr", ":listen_addr"))}
        assert f"tcp:{name[0]}:{name[1]}" in seen
        assert f"tcp:{server}:11211" in seen


# --- redis ----------------------------------------------------------------------------------------


def test_redis(lab, place):
    with serving(lab, place, 6379, "redis-server", "--bind", "0.0.0.0", "--protected-mode", "no",
                 "--save", "", "--dir", place) as (server, client, _):
        assert client("redis-cli", "-h", server, "SET", "key", "value").strip() == "OK"
        assert client("redis-cli", "-h", server, "GET", "key").strip() == "value"
        listed = client("redis-cli", "-h", server, "CLIENT", "LIST").split()
        fields = dict(field.split("=", 1) for field in listed)
        assert fields["addr"].rsplit(":", 1)[0] == client.address
        assert fields["laddr"] == f"{server}:6379"
        said = client("redis-benchmark", "-h", server, "-c", 20, "-n", 2000, "-t", "set,get",
                      "--csv")
        assert [line.split(",")[0] for line in said.splitlines()[1:]] == ['"SET"', '"GET"']
        info = client("redis-cli", "-h", server, "INFO", "stats")
        assert int(re.search(r"total_connections_received:(\d+)", info)[1]) >= 20 + 3
        assert re.search(r"rejected_connections:0\b", info)


# --- PostgreSQL -----------------------------------------------------------------------------------


def as_postgres(*argv):
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *map(str, argv)]


def test_postgresql(lab, place):
    data = place / "data"
    shutil.chown(place, "postgres", "postgres")
    subprocess.run(as_postgres(POSTGRES / "initdb", "-D", data, "-A", "trust", "-N", "--locale=C",
                               "-E", "UTF8"), check=True, stdout=subprocess.DEVNULL, cwd=place)
    with (data / "pg_hba.conf").open("a") as f:
        f.write("host all all 10.77.0.0/16 trust\n")
    server_argv = as_postgres(POSTGRES / "postgres", "-D", data, "-c", "listen_addresses=*",
                              "-c", "unix_socket_directories=", "-c", "fsync=off",
                              "-c", "shared_buffers=16MB", "-c", "log_connections=on")
    with serving(lab, place, 5432, *server_argv) as (server, client, process):
        log_of(process, "ready to accept connections")

        def psql(query):
            return client(POSTGRES / "psql", "-h", server, "-U", "postgres", "-At", "-F", " ", "-c",
                          query).split()

        def pgbench(*argv):
            return client(POSTGRES / "pgbench", "-h", server, "-U", "postgres", *argv, "postgres")

        assert psql("SELECT host(inet_client_addr()), host(inet_server_addr()), "
                    "inet_server_port()") == [client.address, server, "5432"]
        pgbench("-i", "-q", "-s", 1)
        said = pgbench("-c", 4, "-j", 2, "-t", 100)
        assert "transactions actually processed: 400/400" in said, said
        assert psql("SELECT count(*) FROM pgbench_history") == ["400"]
        said = pgbench("-c", 4, "-j", 2, "-t", 20, "-C", "-S")
        assert "transactions actually processed: 80/80" in said, said
        hosts = collections.Counter(log_of(process, r"connection received: host=(\S+)", 80 + 4))
        assert set(hosts) == {client.address}


# --- iperf3 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("-R", "-P", "3")], ids=["up", "down"])
def test_iperf3(lab, place, options):
    with serving(lab, place, 5201, "iperf3", "-s", "-J") as (server, client, process):
        seen = json.loads(client("iperf3", "-c", server, "-n", "20M", "-J", *options))
        assert "error" not in seen
        streams = seen["start"]["connected"]
        assert len(streams) == (3 if options else 1)
        for stream in streams:
            assert stream["local_host"] == client.address
            assert stream["remote_host"] == server
            assert stream["remote_port"] == 5201
        assert seen["end"]["sum_received"]["bytes"] > 0
        hosts = log_of(process, r'"(?:remote_host|host)":\s*"([^"]+)"', len(streams) + 1)
        assert {address_of(host) for host in hosts} == {client.address}
        hosts = log_of(process, r'"local_host":\s*"([^"]+)"', len(streams))
        assert {address_of(host) for host in hosts} == {server}


# --- curl, wget -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bind", ["0.0.0.0", "::"])
def test_curl_from_python_http_server(lab, place, bind):
    text = "".join(f"line {i}\n" for i in range(50_000))
    (place / "file").write_text(text)
    with serving(lab, place, 8000, PYTHON, "-u", "-m", "http.server", "--bind", bind,
                 "8000") as (server, client, process):
        said = client("curl", "-sS", "-f", "-w", "%{stderr}%{local_ip} %{remote_ip} %{remote_port}",
                      "-o", place / "copy", f"http://{server}:8000/file")
        assert said == ""
        assert (place / "copy").read_text() == text
        said = client("curl", "-sS", "-f", "-o", "/dev/null", "-w",
                      "%{local_ip} %{remote_ip} %{remote_port}", f"http://{server}:8000/file")
        assert said.split() == [client.address, server, "8000"]
        hosts = log_of(process, r'^(\S+) - - \[.*\] "GET /file HTTP/1.1" 200', 2)
        assert {address_of(host) for host in hosts} == {client.address}


def test_static_busybox(lab, place):
    assert subprocess.run(["ldd", BUSYBOX], capture_output=True).returncode != 0, "not static"
    (place / "file").write_text("from busybox\n")
    with serving(lab, place, 8000, BUSYBOX, "httpd", "-f", "-vv", "-p", 8000,
                 "-h", place) as (server, client, process):
        said = client(BUSYBOX, "wget", "-q", "-O", "-", f"http://{server}:8000/file")
        assert said == "from busybox\n"
        hosts = log_of(process, r"^\[?(.+?)\]?:\d+: (?:url|response):")
        assert {address_of(host) for host in hosts} == {client.address}


# --- Go -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def go_program(lab):
    path = pathlib.Path("/run/slim-lab") / lab.id / "go"
    path.mkdir()
    subprocess.run(["go", "build", "-o", path / "http", HERE / "programs" / "http.go"], check=True,
                   env={"PATH": "/usr/bin:/bin", "HOME": str(path), "CGO_ENABLED": "0",
                        "GO111MODULE": "off", "GOCACHE": str(path / "cache")})
    shutil.rmtree(path / "cache")
    assert subprocess.run(["ldd", path / "http"], capture_output=True).returncode != 0, "not static"
    return path / "http"


def test_static_go(lab, place, go_program):
    with serving(lab, place, 8000, go_program, "serve", 8000) as (server, client, process):
        assert log_of(process, r"^serving on (.*)") == ["[::]:8000"]
        seen = json.loads(client(go_program, "get", f"{server}:8000", 50))
        assert len({one["client"]["local"] for one in seen}) == 50
        for one in seen:
            assert one["client"]["local"].rsplit(":", 1)[0] == client.address
            assert one["client"]["remote"] == f"{server}:8000"
            assert one["server"] == {"local": one["client"]["remote"],
                                     "remote": one["client"]["local"]}
