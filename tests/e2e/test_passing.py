# SPDX-License-Identifier: Apache-2.0
"""
Sockets that change hands: by SCM_RIGHTS within a container and between two, by fork and exec, and
by the programs that live on it: nginx (daemon, reload, binary upgrade), haproxy (reload), a server
started with its listening socket, PostgreSQL and redis across restarts.

The identity stays with the socket, whoever holds it.
"""

import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess

import pytest

from conftest import PATIENCE, wait_until

PYTHON = "/usr/bin/python3"
POSTGRES = pathlib.Path("/usr/lib/postgresql/15/bin")


@pytest.fixture
def place(lab, request):
    """A directory that every user may enter, gone with the lab."""
    path = pathlib.Path("/run/slim-lab") / lab.id / "passing" / request.node.name
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path)


class Shell:
    """A container whose first process runs the commands that it is given, one after another."""

    # Descriptor 3 is open for writing as well, so that the pipe has no end. What a command leaves running
    # may still write to its output, which is a new file each time and not the one that has the status.
    LOOP = 'exec 3<>"$1"; while read -r line <&3; do rm -f "$2.out"; ( eval "$line" ) >"$2.out" 2>&1 3>&-; ' \
           'echo "$?" >"$2.new"; mv "$2.new" "$2"; done'

    def __init__(self, lab, host, name, place):
        self.name, self.address = name, lab.ip(name)
        self.commands, self.answer = place / f"{name}.commands", place / f"{name}.answer"
        self.output = place / f"{name}.answer.out"
        self._lab, self._host = lab, host

    def __call__(self, *argv):
        """Runs one command in the container; its output. It has to succeed."""
        self.answer.unlink(missing_ok=True)
        # Opened for reading as well, so that this does not wait for a shell that is gone.
        fd = os.open(self.commands, os.O_RDWR)
        try:
            os.write(fd, (shlex.join(map(str, argv)) + "\n").encode())
            wait_until(self.answer.exists, f"{self.name} to run {argv[0]}")
        finally:
            os.close(fd)
        output = self.output.read_text()
        assert self.answer.read_text() == "0\n", f"{argv}: {output}"
        return output

    def wait_listening(self, port):
        self._lab.wait_listening(self._host, self.name, port)


@contextlib.contextmanager
def shell(lab, host, name, place):
    it = Shell(lab, host, name, place)
    os.mkfifo(it.commands)
    with lab.start("run", host, name, "/bin/sh", "-c", Shell.LOOP, "sh", it.commands, it.answer,
                   cwd=place):
        yield it


# Asks for / over and over, each time on a connection of its own, until a file appears.
LOAD = """
import collections, http.client, json, pathlib, sys
address, port, stop = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
outcomes = collections.Counter()
print("ready", flush=True)
while not stop.exists():
    try:
        c = http.client.HTTPConnection(address, port, timeout=30)
        c.request("GET", "/", headers={"Connection": "close"})
        answer = c.getresponse()
        outcomes[f"{answer.status} {answer.read().decode()}"] += 1
        c.close()
    except OSError as e:
        outcomes[repr(e)] += 1
    except http.client.HTTPException as e:
        outcomes[repr(e)] += 1
print(json.dumps(outcomes), flush=True)
"""


@contextlib.contextmanager
def load(lab, place, address, port):
    """Runs LOAD in a container on h1; what it counted is in the dict after the block."""
    outcomes, stop = {}, place / "stop"
    with lab.start("run", "h1", "load", PYTHON, "-c", LOAD, address, port, stop,
                   ready="ready") as process:
        yield outcomes
        stop.touch()
        process.wait(PATIENCE)
        outcomes.update(json.loads(pathlib.Path(process.log).read_text().splitlines()[-1]))


# --- SCM_RIGHTS -----------------------------------------------------------------------------------

# Tells each client who it is and whom it reached.
WHO = """
import json, socket
s = socket.create_server(("0.0.0.0", 9000))
print("ready", flush=True)
while True:
    c, peer = s.accept()
    c.sendall(json.dumps([peer, c.getsockname()]).encode())
    c.shutdown(socket.SHUT_WR)
"""

# One process makes four sockets and gives them away; they are a fresh one, a connected one, one
# that listens and one that is bound.
GIVE = """
import json, socket, sys
who, path = (sys.argv[1], 9000), sys.argv[2]
given = [socket.socket(), socket.create_connection(who), socket.create_server(("0.0.0.0", 7000)),
         socket.socket()]
given[3].bind(("0.0.0.0", 7001))
door = socket.socket(socket.AF_UNIX)
door.bind(path)
door.listen()
print("ready", flush=True)
c, _ = door.accept()
socket.send_fds(c, [b"x"], [s.fileno() for s in given])
for s in given:
    s.close()
c.recv(1)                                           # until the other one has done
"""

# The other process uses them, and says what it saw.
TAKE = """
import errno, json, socket, sys, threading
who, path, own, giver = (sys.argv[1], 9000), sys.argv[2], sys.argv[3], sys.argv[4]
door = socket.socket(socket.AF_UNIX)
door.settimeout(30)
door.connect(path)
_, fds, _, _ = socket.recv_fds(door, 1, 4)
fresh, connected, listening, bound = (socket.socket(fileno=fd) for fd in fds)
seen = {}
def hear(s):
    return [s.getsockname(), s.getpeername(), json.loads(s.makefile().read())]
def attempt(call, *arguments):
    try:
        return call(*arguments)
    except OSError as e:
        return errno.errorcode[e.errno]
def served(s, port):
    s.settimeout(30)
    client = socket.create_connection((giver, port), timeout=30)
    c, peer = s.accept()
    return [c.getsockname(), peer, client.getsockname(), client.getpeername()]
fresh.connect(who)
seen["fresh"] = hear(fresh)
seen["connected"] = hear(connected)
seen["listening"] = served(listening, 7000)
bound.listen()
seen["bound"] = served(bound, 7001)
# The table of ports is the giver's for its sockets, the taker's for the taker's own.
mine = socket.socket()
seen["bind mine"] = attempt(mine.bind, ("0.0.0.0", 7000))
seen["bind to the giver"] = attempt(socket.socket().bind, (giver, 0))
fresh.close()
print(json.dumps(seen))
"""

# Another's socket cannot do what its owner could not.
MISUSE = """
import errno, json, socket, sys
path, own, giver = sys.argv[1:4]
def attempt(call, *arguments):
    try:
        return call(*arguments)
    except OSError as e:
        return errno.errorcode[e.errno]
door = socket.socket(socket.AF_UNIX)
door.settimeout(30)
door.connect(path)
_, fds, _, _ = socket.recv_fds(door, 1, 4)
fresh, connected, listening, bound = (socket.socket(fileno=fd) for fd in fds)
print(json.dumps([attempt(fresh.bind, (own, 0)), attempt(fresh.bind, (giver, 7000)),
                  attempt(fresh.bind, (giver, 7002)), fresh.getsockname()]))
"""


@pytest.fixture
def who(lab):
    with lab.start("run", "h2", "who", PYTHON, "-c", WHO, ready="ready"):
        yield lab.ip("who")


def check_taken(seen, who, giver, taker):
    for which in ("fresh", "connected"):
        name, peer, (client, server) = seen[which]
        assert name[0] == giver and peer == [who, 9000], seen
        # The server sees the giver, and the port that the socket itself has.
        assert client == name and server == peer
    for which, port in (("listening", 7000), ("bound", 7001)):
        name, peer, client, server = seen[which]
        assert name == server == [giver, port], seen
        assert peer == client and client[0] == taker, seen


def test_sockets_passed_to_another_container(lab, place, who):
    path = place / "door"
    giver, taker = lab.ip("giver"), lab.ip("taker")
    with lab.start("run", "h1", "giver", PYTHON, "-c", GIVE, who, path, ready="ready"):
        seen = lab.python("h1", "taker", TAKE, who, path, taker, giver)
    check_taken(seen, who, giver, taker)
    assert seen["bind mine"] is None
    assert seen["bind to the giver"] == "EADDRNOTAVAIL"


def test_sockets_passed_within_a_container(lab, place, who):
    path, own = place / "door", lab.ip("family")
    both = f'"$0" -c "$1" "$3" "$4" & while [ ! -S "$4" ]; do sleep 0.05; done; ' \
           '"$0" -c "$2" "$3" "$4" "$5" "$5"; wait'
    done = lab.run("h1", "family", "/bin/sh", "-c", both, PYTHON, GIVE, TAKE, who, path, own)
    seen = json.loads(done.stdout.splitlines()[-1])
    check_taken(seen, who, own, own)
    # The listening socket has the port, whoever holds it.
    assert seen["bind mine"] == "EADDRINUSE"
    assert seen["bind to the giver"] is None


def test_passed_socket_binds_in_the_givers_table(lab, place, who):
    path = place / "door"
    giver, taker = lab.ip("giver"), lab.ip("taker")
    with lab.start("run", "h1", "giver", PYTHON, "-c", GIVE, who, path, ready="ready"):
        foreign, taken, free, name = lab.python("h1", "taker", MISUSE, path, taker, giver)
    assert foreign == "EADDRNOTAVAIL"
    assert taken == "EADDRINUSE"
    assert free is None and name == [giver, 7002]


# --- fork and exec --------------------------------------------------------------------------------

# As systemd activates a service: the listening sockets are descriptors 3, 4, … of the program.
ACTIVATE = """
import os, socket, sys
sockets = [socket.create_server(("0.0.0.0", port)) for port in (8000, 8001)]
if os.fork() == 0:
    os.setsid()
    for i, s in enumerate(sockets):
        os.dup2(s.fileno(), 103 + i)
    for i in range(len(sockets)):
        os.dup2(103 + i, 3 + i, inheritable=True)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(sockets))}
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
for s in sockets:
    s.close()
os.wait()
"""

ACTIVATED = """
import json, os, select, socket
assert os.environ["LISTEN_PID"] == str(os.getpid())
listeners = [socket.socket(fileno=3 + i) for i in range(int(os.environ["LISTEN_FDS"]))]
print("ready", flush=True)
while True:
    for s in select.select(listeners, [], [])[0]:
        c, peer = s.accept()
        if os.fork() == 0:                          # as inetd does
            os.dup2(c.fileno(), 1)
            os.execv("/bin/echo", ["echo", json.dumps([peer, c.getsockname()])])
        c.close()
        os.wait()
"""

HEAR = """
import json, socket, sys
seen = []
for port in (8000, 8001) * 5:
    s = socket.create_connection((sys.argv[1], port), timeout=30)
    seen.append([s.getsockname(), s.getpeername(), json.loads(s.makefile().read())])
print(json.dumps(seen))
"""


def test_socket_activation(lab):
    with lab.start("run", "h2", "activated", PYTHON, "-c", ACTIVATE, ACTIVATED, ready="ready"):
        seen = lab.python("h1", "client", HEAR, lab.ip("activated"))
    for name, peer, (client, server) in seen:
        assert [client, server] == [name, peer]
        assert name[0] == lab.ip("client")
        assert peer[0] == lab.ip("activated")
    assert {peer[1] for _, peer, _ in seen} == {8000, 8001}


# --- nginx ----------------------------------------------------------------------------------------

NGINX = """
worker_processes 2;
user nobody nogroup;
error_log {dir}/{name}.error.log;
pid {dir}/{name}.pid;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {dir}/{name}.body;
    proxy_temp_path {dir}/{name}.proxy;
    fastcgi_temp_path {dir}/{name}.fastcgi;
    uwsgi_temp_path {dir}/{name}.uwsgi;
    scgi_temp_path {dir}/{name}.scgi;
    server {{
        listen 8080;
        location / {{ return 200 "{name} {text} $remote_addr $http_x_forwarded_for"; }}
    }}
}}
"""


class Nginx:
    """nginx as a daemon in a container's shell."""

    def __init__(self, container, place):
        self.container, self.place = container, place
        self.conf = place / f"{container.name}.conf"
        self.pid_file = place / f"{container.name}.pid"

    def configure(self, text):
        self.conf.write_text(NGINX.format(dir=self.place, name=self.container.name, text=text))

    def __call__(self, *options):
        # By its path: that is what it executes to upgrade itself.
        self.container("/usr/sbin/nginx", "-p", self.place, "-c", self.conf, "-e",
                       self.place / f"{self.container.name}.error.log", *options)

    def start(self, text):
        self.configure(text)
        self()
        self.container.wait_listening(8080)

    def errors(self):
        return re.findall(r".*\[(?:error|crit|alert|emerg)\].*",
                          (self.place / f"{self.container.name}.error.log").read_text())


def ask(lab, address, port=8080):
    return lab.run("h1", "client", "curl", "-sS", "-f", f"http://{address}:{port}/").stdout


def test_nginx_reloads_under_load(lab, place):
    with shell(lab, "h2", "web", place) as container:
        nginx = Nginx(container, place)
        nginx.start("first")
        with load(lab, place, container.address, 8080) as outcomes:
            for text in ("second", "third", "fourth"):
                nginx.configure(text)
                nginx("-s", "reload")
                wait_until(lambda text=text: text in ask(lab, container.address),
                           f"nginx to say {text}")
        assert set(outcomes) <= {f"200 web {text} {lab.ip('load')} "
                                 for text in ("first", "second", "third", "fourth")}, outcomes
        assert len(outcomes) > 1
        assert nginx.errors() == []


def test_nginx_binary_upgrade_under_load(lab, place):
    with shell(lab, "h2", "web", place) as container:
        nginx = Nginx(container, place)
        nginx.start("old")
        old = nginx.pid_file.read_text().strip()
        with load(lab, place, container.address, 8080) as outcomes:
            nginx.configure("new")
            container("kill", "-USR2", old)
            before = pathlib.Path(f"{nginx.pid_file}.oldbin")
            wait_until(lambda: before.exists() and nginx.pid_file.exists()
                       and nginx.pid_file.read_text().strip() not in ("", old),
                       "the new nginx to write its pid")
            wait_until(lambda: "new" in ask(lab, container.address), "the new nginx to answer")
            container("kill", "-QUIT", old)
            wait_until(lambda: not before.exists(), "the old nginx to end")
            assert "new" in ask(lab, container.address)
        assert set(outcomes) <= {f"200 web {text} {lab.ip('load')} " for text in ("old", "new")}
        assert outcomes.get(f"200 web old {lab.ip('load')} ", 0) > 0, outcomes
        assert nginx.errors() == []
        # The listener that the old one made is the new one's: there is no other.
        listed = lab.ctl("h2", "connection", "ls", "--name", "web")["connections"]
        assert [c["local"] for c in listed if c["state"] == "listen"] == ["0.0.0.0:8080"]


# --- haproxy --------------------------------------------------------------------------------------

HAPROXY = """
global
    stats socket {dir}/haproxy.sock mode 600 level admin expose-fd listeners
    nbthread 1
defaults
    timeout connect 10s
    timeout client 30s
    timeout server 30s
    balance roundrobin
frontend http
    mode http
    bind 0.0.0.0:80
    option forwardfor
    default_backend http
backend http
    mode http
    server one {one}:8080
    server two {two}:8080
frontend tcp
    mode tcp
    bind 0.0.0.0:81
    default_backend tcp
backend tcp
    mode tcp
    server one {one}:8080
    server two {two}:8080
"""


def test_haproxy_before_two_hosts(lab, place):
    with contextlib.ExitStack() as stack:
        webs = [stack.enter_context(shell(lab, host, name, place))
                for host, name in (("h1", "one"), ("h2", "two"))]
        for web in webs:
            Nginx(web, place).start("ok")
        proxy = stack.enter_context(shell(lab, "h2", "proxy", place))
        conf = place / "haproxy.cfg"
        conf.write_text(HAPROXY.format(dir=place, one=webs[0].address, two=webs[1].address))
        proxy("/usr/sbin/haproxy", "-W", "-D", "-f", conf, "-p", place / "haproxy.pid")
        for port in (80, 81):
            proxy.wait_listening(port)
        for port, forwarded in ((80, lab.ip("client")), (81, "")):
            said = {ask(lab, proxy.address, port) for _ in range(4)}
            assert said == {f"{name} ok {proxy.address} {forwarded}" for name in ("one", "two")}
        # A reload hands the listening sockets to the next worker, by SCM_RIGHTS.
        master = (place / "haproxy.pid").read_text().split()[0]
        with load(lab, place, proxy.address, 80) as outcomes:
            workers = {children(proxy, master)}
            for _ in range(3):
                proxy("kill", "-USR2", master)
                wait_until(lambda: children(proxy, master) not in workers | {""},
                           "haproxy's next worker")
                workers.add(children(proxy, master))
                assert ask(lab, proxy.address, 80).startswith(("one", "two"))
        assert set(outcomes) == {f"200 {name} ok {proxy.address} {lab.ip('load')}"
                                 for name in ("one", "two")}, outcomes


def children(container, pid):
    return container("cat", f"/proc/{pid}/task/{pid}/children").strip()


# --- PostgreSQL, redis ----------------------------------------------------------------------------


def test_postgresql_restart(lab, place):
    data = place / "data"
    shutil.chown(place, "postgres", "postgres")
    setpriv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    subprocess.run([*setpriv, POSTGRES / "initdb", "-D", data, "-A", "trust", "-N", "--locale=C",
                    "-E", "UTF8"], check=True, stdout=subprocess.DEVNULL, cwd=place)
    with (data / "pg_hba.conf").open("a") as f:
        f.write("host all all 10.77.0.0/16 trust\n")
    with shell(lab, "h2", "postgres", place) as container:
        def pg_ctl(*argv):
            container(*setpriv, POSTGRES / "pg_ctl", "-D", data, "-w", "-t", PATIENCE, *argv)

        def sql(query):
            return lab.run("h1", "client", POSTGRES / "psql", "-h", container.address, "-U",
                           "postgres", "-At", "-c", query).stdout.strip()

        options = "-c listen_addresses=* -c unix_socket_directories= -c fsync=off"
        pg_ctl("-l", data / "log", "-o", options, "start")
        container.wait_listening(5432)
        sql("CREATE TABLE t AS SELECT 1 AS n")
        for mode in ("fast", "immediate"):
            # A client is connected, so that the server closes first and TIME_WAIT is its.
            with lab.start("run", "h1", "sleeper", POSTGRES / "psql", "-h", container.address,
                           "-U", "postgres", "-c", "SELECT pg_sleep(600)"):
                wait_until(lambda: sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE "
                                       "'SELECT pg_sleep%'") == "1", "the sleeper to connect")
                pg_ctl("-l", data / "log", "-m", mode, "restart")
            assert sql("SELECT n, host(inet_client_addr()) FROM t") == f"1|{lab.ip('client')}"


def test_redis_replication_across_hosts(lab, place):
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(shell(lab, host, name, place))
                         for host, name in (("h1", "redis-1"), ("h2", "redis-2")))

        def redis(container, *argv):
            return lab.run("h1", "client", "redis-cli", "-h", container.address, *argv).stdout

        def field(container, name):
            found = re.search(rf"^{name}:(.*?)\r?$", redis(container, "INFO", "replication"), re.M)
            return found and found[1]

        def start(container, *argv):
            directory = place / container.name
            directory.mkdir(exist_ok=True)
            container("redis-server", "--daemonize", "yes", "--bind", "0.0.0.0",
                      "--protected-mode", "no", "--dir", directory, "--logfile", "log",
                      "--repl-diskless-sync-delay", "0", *argv)
            container.wait_listening(6379)

        start(first)
        start(second, "--replicaof", f"{first.address} 6379")
        wait_until(lambda: field(second, "master_link_status") == "up", "the replica to be linked")
        assert field(first, "slave0").startswith(f"ip={second.address},port=6379,state=online")
        redis(first, "SET", "key", "one")
        wait_until(lambda: redis(second, "GET", "key").strip() == "one", "the key at the replica")
        # The master comes back, and the replica finds it.
        redis(first, "SHUTDOWN", "SAVE")
        wait_until(lambda: field(second, "master_link_status") == "down", "the link to be down")
        start(first)
        wait_until(lambda: field(second, "master_link_status") == "up", "the link to be up again")
        redis(first, "SET", "key", "two")
        wait_until(lambda: redis(second, "GET", "key").strip() == "two", "the key at the replica")
        # The other way round.
        redis(second, "REPLICAOF", "NO", "ONE")
        redis(first, "REPLICAOF", second.address, 6379)
        redis(second, "SET", "key", "three")
        wait_until(lambda: redis(first, "GET", "key").strip() == "three", "the key at the first")
        assert field(second, "slave0").startswith(f"ip={first.address},port=6379")
