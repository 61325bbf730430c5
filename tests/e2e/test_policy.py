# SPDX-License-Identifier: Apache-2.0
"""
Who may talk to whom: network policies in force, by every way that a container is reached, and what
becomes of connections when a policy or a label changes.
"""

import contextlib
import errno
import json

import pytest

from conftest import wait_until
from remote import Moved, Remote

H1, OUTSIDE = "192.0.2.1", "192.0.2.254"

SERVE = """
def _accept(l):
    while True:
        c, _ = l.accept()
        c.settimeout(None)
        threading.Thread(target=_echo, args=(c,), daemon=True).start()
def _echo(c):
    with contextlib.suppress(OSError):
        while data := c.recv(100):
            c.sendall(data)
    c.close()
def serve(port):
    l = listen('0.0.0.0', port)
    l.settimeout(None)
    threading.Thread(target=_accept, args=(l,), daemon=True).start()
def serve_udp(port):
    u = socket.socket(type=socket.SOCK_DGRAM)
    u.bind(('0.0.0.0', port))
    u.settimeout(None)
    def run():
        while True:
            data, peer = u.recvfrom(100)
            u.sendto(data, peer)
    threading.Thread(target=run, daemon=True).start()
"""

# 'ok', 'silence', or the name of the errno.
ASK = """
def ask(address, port, patience=1.5):
    s = socket.socket()
    s.settimeout(patience)
    try:
        s.connect((address, port))
        s.sendall(b'x')
        return 'ok' if s.recv(1) == b'x' else 'end'
    except TimeoutError:
        return 'silence'
    except OSError as e:
        return errno.errorcode[e.errno]
    finally:
        s.close()
def ask_udp(address, port, patience=1.5):
    with socket.socket(type=socket.SOCK_DGRAM) as u:
        u.settimeout(patience)
        u.connect((address, port))
        try:
            u.send(b'x')
            return 'ok' if u.recv(1) == b'x' else 'what?'
        except TimeoutError:
            return 'silence'
        except OSError as e:
            return errno.errorcode[e.errno]
def ping(address):
    # The kernel's own ping sockets.
    with socket.socket(type=socket.SOCK_DGRAM, proto=socket.IPPROTO_ICMP) as s:
        s.settimeout(1.5)
        s.connect((address, 0))  # or it is told of no error
        try:
            s.send(bytes([8, 0, 0, 0, 0, 0, 0, 1]))
            return 'ok' if s.recv(100)[0] == 0 else 'what?'
        except TimeoutError:
            return 'silence'
        except OSError as e:
            return errno.errorcode[e.errno]
"""

# name: host, kind, its label "app"
CONTAINERS = {
    "web": ("h1", "slim", "web"),
    "near": ("h1", "slim", "client"),
    "far": ("h2", "slim", "client"),
    "stranger": ("h2", "slim", "stranger"),
    "plainweb": ("h1", "plain", "web"),
    "plainfar": ("h2", "plain", "client"),
    "plainstranger": ("h1", "plain", "stranger"),
}


@pytest.fixture(scope="module")
def world(lab):
    with contextlib.ExitStack() as stack:
        there = {}
        for name, (host, kind, app) in CONTAINERS.items():
            options = ["--label", f"app={app}"]
            if app == "web":
                options += ["--port", "http=80", "--port", "talk=5353/udp",
                            "--publish", "8080:80" if kind == "slim" else "8081:80"]
            r = there[name] = stack.enter_context(getattr(Remote, kind)(lab, host, name,
                                                                        options=options))
            r.do(SERVE + ASK)
            r.do("[serve(p) for p in (80, 81)]; serve_udp(5353)")
            r.do("open('/proc/sys/net/ipv4/ping_group_range', 'w').write('0 1000')")
        for host in ("h1", "net"):
            r = there[host] = stack.enter_context(Remote.host(lab, host))
            r.do(SERVE + ASK)
        there["net"].do("serve(8000); serve(8001)")
        yield there


def policy(name, selector, deny=None, **spec):
    meta = {"name": name}
    if deny:
        meta["annotations"] = {"slim.io/deny": deny}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta,
            "spec": {"podSelector": {"matchLabels": selector} if selector else {}, **spec}}


def app(*values):
    return [{"podSelector": {"matchLabels": {"app": v}}} for v in values]


@pytest.fixture
def apply(lab, tmp_path):
    """Puts policies in force, on both hosts; all are gone afterwards."""
    names = []

    def put(*policies, host="h2"):
        path = tmp_path / "policies.yaml"
        # JSON is YAML.
        path.write_text("\n---\n".join(json.dumps(p) for p in policies))
        lab.verb("ctl", host, "--", "policy", "apply", "-f", path)
        names.extend(p["metadata"]["name"] for p in policies)
        for each in ("h1", "h2"):
            lab.ctl(each, "policy", "ls")  # it has read what the store has

    yield put
    if names:
        lab.verb("ctl", "h1", "--", "policy", "rm", *sorted(set(names)))
        for each in ("h1", "h2"):
            lab.ctl(each, "policy", "ls")


def talk(lab, world, client, server, port=80):
    return world[client](f"ask('{lab.ip(server)}', {port})")


SERVERS = ("web", "plainweb")
CLIENTS = ("near", "far", "plainfar")
STRANGERS = ("stranger", "plainstranger")


def test_without_policies(lab, world):
    for server in SERVERS:
        for client in CLIENTS + STRANGERS:
            assert talk(lab, world, client, server) == "ok", (client, server)
            assert world[client](f"ask_udp('{lab.ip(server)}', 5353)") == "ok"
            assert world[client](f"ping('{lab.ip(server)}')") == "ok"


@pytest.mark.parametrize("deny", ["drop", "reject"])
def test_ingress(lab, world, apply, deny):
    apply(policy("web", {"app": "web"}, deny,
                 ingress=[{"from": app("client"), "ports": [{"port": 80}, {"port": 5353,
                                                                          "protocol": "UDP"}]}]))
    for server in SERVERS:
        for client in CLIENTS:
            assert talk(lab, world, client, server) == "ok", (client, server)
            assert world[client](f"ask_udp('{lab.ip(server)}', 5353)") == "ok"
    refused = {"drop": "silence", "reject": "ECONNREFUSED"}[deny]
    for client, port in (("stranger", 80), ("near", 81), ("far", 81)):
        moved = Moved(lab, "h1")
        assert talk(lab, world, client, "web", port) == refused
        assert moved("policy_ingress")["policy_ingress"] >= 1
    # By the encapsulated path, in one host and between two.
    for client, server, port in (("plainstranger", "web", 80), ("plainfar", "web", 81),
                                 ("plainfar", "plainweb", 81), ("stranger", "plainweb", 80),
                                 ("plainstranger", "plainweb", 80), ("near", "plainweb", 81),
                                 ("h1", "plainweb", 80)):
        assert talk(lab, world, client, server, port) == refused, (client, server)
    refused = {"drop": "silence", "reject": "EHOSTUNREACH"}[deny]
    for server in SERVERS:
        for client in STRANGERS:
            assert world[client](f"ask_udp('{lab.ip(server)}', 5353)") == refused
            assert world[client](f"ping('{lab.ip(server)}')") == refused
        # It begins what it likes, and is answered.
        for other in ("far", "plainfar", "stranger"):
            assert talk(lab, world, server, other) == "ok", (server, other)
            assert world[server](f"ask_udp('{lab.ip(other)}', 5353)") == "ok"
            assert world[server](f"ping('{lab.ip(other)}')") == "ok"
    # And itself is no peer.
    assert world["web"]("ask('127.0.0.1', 80)") == "ok"


@pytest.mark.parametrize("deny", ["drop", "reject"])
def test_egress(lab, world, apply, deny):
    apply(policy("clients", {"app": "client"}, deny, policyTypes=["Egress"],
                 egress=[{"to": app("web"), "ports": [{"port": "http"},
                                                      {"port": "talk", "protocol": "UDP"}]}]))
    for server in SERVERS:
        for client in CLIENTS:
            assert talk(lab, world, client, server) == "ok", (client, server)
            assert world[client](f"ask_udp('{lab.ip(server)}', 5353)") == "ok"
            assert world[client](f"ping('{lab.ip(server)}')") == \
                {"drop": "silence", "reject": "EHOSTUNREACH"}[deny]
            # Others come to them as ever.
            assert talk(lab, world, server, client) == "ok"
            assert world[server](f"ask_udp('{lab.ip(client)}', 5353)") == "ok"
            assert world[server](f"ping('{lab.ip(client)}')") == "ok"
    refused = {"drop": "silence", "reject": "EPERM"}[deny]
    for client, server, port in (("near", "web", 81), ("far", "web", 81), ("far", "stranger", 80),
                                 ("near", "plainweb", 81), ("far", "plainweb", 81)):
        moved = Moved(lab, CONTAINERS[client][0])
        assert talk(lab, world, client, server, port) == refused, (client, server)
        assert moved("policy_egress") == {"policy_egress": 1}
    refused = {"drop": "silence", "reject": "ECONNREFUSED"}[deny]
    assert talk(lab, world, "plainfar", "web", 81) == refused
    # An address of nobody's in the overlay is what it was.
    assert world["far"]("ask('10.77.200.200', 80)") == "EHOSTUNREACH"


def test_a_dropped_connect(lab, world, apply):
    """It is a connection that begins, as far as the program can tell, and never more."""
    apply(policy("clients", {"app": "client"}, policyTypes=["Egress"]))
    far, web = world["far"], lab.ip("web")
    far.do(f"""
s = socket.socket()
s.setblocking(False)
said = s.connect_ex(('{web}', 80))
again = s.connect_ex(('{web}', 80))
ready = select.select([], [s], [s], 0.5)
name = s.getsockname()
""")
    assert far("errno.errorcode[said], errno.errorcode[again]") == ("EINPROGRESS", "EALREADY")
    assert far("ready") == ([], [], []) and far("name[0]") == lab.ip("far")
    with pytest.raises(OSError) as e:
        far("s.getpeername()")
    assert e.value.errno == errno.ENOTCONN
    far.do("s.close()")
    # Its time is over as it always is.
    far.do(f"""
s = socket.socket()
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
s.settimeout(None)
said = s.connect_ex(('{web}', 80))
s.close()
""")
    assert far("errno.errorcode[said]") == "ETIMEDOUT"


def test_one_socket_after_another_policy(lab, world, apply):
    """The same socket, denied and then allowed."""
    apply(policy("clients", {"app": "client"}, "reject", policyTypes=["Egress"]))
    far, web = world["far"], lab.ip("web")
    far.do("s = socket.socket()")
    assert far(f"errno.errorcode[s.connect_ex(('{web}', 80))]") == "EPERM"
    apply(policy("clients", {"app": "client"}, "reject", policyTypes=["Egress"],
                 egress=[{"to": app("web")}]))
    assert far(f"s.connect_ex(('{web}', 80))") == 0
    far.do("s.sendall(b'x')")
    assert far("s.recv(1)") == b"x"
    far.do("s.close()")


def test_outside(lab, world, apply):
    """By address, with an exception; and no answer that nobody asked for."""
    block = {"ipBlock": {"cidr": "192.0.2.0/24", "except": [f"{H1}/32"]}}
    apply(policy("clients", {"app": "client"}, "reject", policyTypes=["Egress"],
                 egress=[{"to": [block], "ports": [{"port": 8000}]}]))
    for client in ("near", "far"):
        assert world[client](f"ask('{OUTSIDE}', 8000)") == "ok"
        assert world[client](f"ask('{OUTSIDE}', 8001)") == "EPERM"
        assert world[client](f"ask('{H1}', 8080)") == "EPERM"
    assert world["plainfar"](f"ask('{OUTSIDE}', 8000)") == "ok"
    assert world["plainfar"](f"ask('{OUTSIDE}', 8001)") == "ECONNREFUSED"


@pytest.mark.parametrize("deny", ["drop", "reject"])
def test_published_ports(lab, world, apply, deny):
    refused = {"drop": "silence", "reject": "ECONNREFUSED"}[deny]
    assert world["net"](f"ask('{H1}', 8080)") == "ok"
    assert world["net"](f"ask('{H1}', 8081)") == "ok"
    apply(policy("web", {"app": "web"}, deny, ingress=[{"from": app("client")}]))
    for port in 8080, 8081:
        moved = Moved(lab, "h1")
        assert world["net"](f"ask('{H1}', {port})") == refused, port
        assert moved("policy_ingress")["policy_ingress"] >= 1
    apply(policy("web", {"app": "web"}, deny,
                 ingress=[{"from": [{"ipBlock": {"cidr": f"{OUTSIDE}/32"}}]}]))
    assert world["net"](f"ask('{H1}', 8080)") == "ok"
    assert world["net"](f"ask('{H1}', 8081)") == "ok"
    assert talk(lab, world, "far", "web") == refused


def test_the_host(lab, world, apply):
    """Its processes are an endpoint of its own, which no empty selector means."""
    for server in SERVERS:
        assert world["h1"](f"ask('{lab.ip(server)}', 80)") == "ok"
    apply(policy("web", {"app": "web"}, ingress=[{"from": [{"podSelector": {}}]}]))
    for server in SERVERS:
        assert world["h1"](f"ask('{lab.ip(server)}', 80)") == "silence"
        assert talk(lab, world, "near", server) == "ok"
    host = {"podSelector": {"matchLabels": {"slim.io/kind": "host", "slim.io/host": "h1"}}}
    apply(policy("web", {"app": "web"}, ingress=[{"from": [host]}]))
    for server in SERVERS:
        assert world["h1"](f"ask('{lab.ip(server)}', 80)") == "ok"
        assert talk(lab, world, "near", server) == "silence"
    # What the host itself may.
    apply(policy("host", {"slim.io/kind": "host"}, "reject", policyTypes=["Egress"],
                 egress=[{"to": app("web"), "ports": [{"port": 81}]}]))
    assert world["h1"](f"ask('{lab.ip('web')}', 81)") == "ok"
    assert world["h1"](f"ask('{lab.ip('web')}', 80)") == "EPERM"
    assert world["h1"](f"ask('{lab.ip('plainweb')}', 80)") == "EPERM"
    assert world["h1"](f"ask_udp('{lab.ip('plainweb')}', 5353)") == "EHOSTUNREACH"


# --- what changes ---------------------------------------------------------------------------------

# Sends and receives without a pause, and knows the longest that an answer took.
STREAM = """
def stream(name, address, port, source=None):
    s = connect(address, port, source=source)
    state = {'n': 0, 'longest': 0.0, 'error': None, 'socket': s}
    def run():
        try:
            while True:
                t = time.monotonic()
                s.sendall(b'x')
                if s.recv(1) != b'x':
                    raise OSError(errno.EPIPE, 'end')
                state['longest'] = max(state['longest'], time.monotonic() - t)
                state['n'] += 1
                time.sleep(0.002)
        except OSError as e:
            state['error'] = errno.errorcode.get(e.errno, repr(e))
    streams[name] = state
    threading.Thread(target=run, daemon=True).start()
streams = {}
"""


@contextlib.contextmanager
def streaming(lab, world, *pairs):
    for client, server, port in pairs:
        world[client].do(STREAM)
    for client, server, port in pairs:
        world[client].do(f"stream('{server}:{port}', '{lab.ip(server)}', {port})")
    try:
        yield
    finally:
        for client, *_ in pairs:
            world[client].do("[s['socket'].close() for s in streams.values()]")


def ended(world, client, key):
    return world[client](f"streams['{key}']['error']")


def goes_on(world, client, key):
    before = world[client](f"streams['{key}']['n']")
    wait_until(lambda: world[client](f"streams['{key}']['n']") > before + 20, f"{client} to go on")
    assert world[client](f"streams['{key}']['error']") is None


def test_revocation(lab, world, apply):
    """What is not allowed any more ends at both of its ends; the rest goes on."""
    pairs = [("far", "web", 80), ("far", "web", 81), ("near", "web", 80), ("near", "web", 81),
             ("stranger", "web", 80)]
    with streaming(lab, world, *pairs):
        for client, server, port in pairs:
            goes_on(world, client, f"{server}:{port}")
        apply(policy("web", {"app": "web"},
                     ingress=[{"from": app("client"), "ports": [{"port": 80}]}]))
        for client, key in (("far", "web:81"), ("near", "web:81"), ("stranger", "web:80")):
            wait_until(lambda c=client, k=key: ended(world, c, k), f"{client} {key} to end")
            assert ended(world, client, key) in ("ECONNRESET", "EPIPE", "ECONNABORTED")
        for client in ("far", "near"):
            goes_on(world, client, "web:80")
        apply(policy("clients", {"app": "client"}, policyTypes=["Egress"]))
        for client in ("far", "near"):
            wait_until(lambda c=client: ended(world, c, "web:80"), f"{client} to end")
        left = [c for c in lab.ctl("h1", "connection", "ls", "--name", "web")["connections"]
                if c["state"] == "established"]
        assert left == []


def test_a_label_changes(lab, world, apply):
    apply(policy("web", {"app": "web"}, ingress=[{"from": app("client")}]))
    with streaming(lab, world, ("far", "web", 80), ("near", "web", 80)):
        goes_on(world, "far", "web:80")
        lab.verb("ctl", "h2", "--", "endpoint", "label", "far", "app=other")
        try:
            wait_until(lambda: ended(world, "far", "web:80"), "far to end")
            goes_on(world, "near", "web:80")
            lab.ctl("h1", "policy", "ls")
            assert talk(lab, world, "far", "web") == "silence"
        finally:
            lab.verb("ctl", "h2", "--", "endpoint", "label", "far", "app=client")
        lab.ctl("h1", "policy", "ls")
        assert talk(lab, world, "far", "web") == "ok"


def test_a_socket_outlives_its_container(lab, world):
    """Whoever has it: its connection ends with the endpoint."""
    place = f"/run/slim-lab/{lab.id}/outlives"
    with Remote.host(lab, "h1") as keeper:
        keeper.do(f"u = socket.socket(socket.AF_UNIX); u.bind({place!r}); u.listen()")
        with Remote.slim(lab, "h1", "brief") as brief:
            brief.do(f"s = connect('{lab.ip('far')}', 80); u = socket.socket(socket.AF_UNIX); "
                     f"u.connect({place!r}); socket.send_fds(u, [b'x'], [s.fileno()])")
            keeper.do("c, _ = u.accept(); fd = socket.recv_fds(c, 10, 1)[1][0]; "
                      "s = socket.socket(fileno=fd); s.settimeout(30); s.sendall(b'x')")
            assert keeper("s.recv(1)") == b"x"
        with pytest.raises(OSError) as e:
            keeper.do("s.recv(1)")
        assert e.value.errno in (errno.ECONNABORTED, errno.ECONNRESET)


@pytest.mark.parametrize("spec,ends", [
    (("web", {"app": "web"}, "drop", "ingress"), [errno.ECONNRESET]),
    (("client", {"app": "client"}, "drop", "egress"), [errno.ECONNABORTED])])
def test_connections_of_plain_containers_end(lab, world, apply, spec, ends):
    """At the end whose policy denies it; the other one hears of it. What is allowed goes on."""
    far, web = world["plainfar"], lab.ip("plainweb")
    name, selector, deny, direction = spec
    far.do(f"s = connect('{web}', 80); s.sendall(b'x'); other = connect('{web}', 81); other.sendall(b'y')")
    assert far("s.recv(1)") == b"x" and far("other.recv(1)") == b"y"
    key = {"ingress": "from", "egress": "to"}[direction]
    rule = {key: app("client" if direction == "ingress" else "web"),
            "ports": [{"protocol": "TCP", "port": 81}]}
    apply(policy(name, selector, deny, **{direction: [rule]}))
    with pytest.raises(OSError) as e:
        far("s.recv(1)")
    assert e.value.errno in ends
    far.do("other.sendall(b'z')")
    assert far("other.recv(1)") == b"z"
    far.do("s.close(); other.close()")


def test_a_plain_server_that_listens_no_more(lab, world, apply):
    """Who began cannot be told of its connection; it goes on while either could have."""
    far, web = world["plainfar"], world["plainweb"]
    web.do("once = listen('', 7000)")
    far.do(f"s = connect('{lab.ip('plainweb')}', 7000)")
    web.do("c, _ = once.accept(); once.close()")
    apply(policy("web", {"app": "web"}, egress=[{"to": app("stranger")}], policyTypes=["Egress"]))
    far.do("s.sendall(b'a')")
    assert web("c.recv(1)") == b"a"
    web.do("c.sendall(b'b')")
    assert far("s.recv(1)") == b"b"
    apply(policy("web", {"app": "web"}, ingress=[{"from": app("stranger")}], egress=[{"to": app("stranger")}]))
    with pytest.raises(OSError) as e:
        web("c.recv(1)")
    assert e.value.errno == errno.ECONNABORTED
    web.do("c.close()")
    far.do("s.close()")


def test_without_slimd(lab, world, apply):
    """Policies are the kernel's: they are in force whoever has died."""
    apply(policy("web", {"app": "web"}, "reject", ingress=[{"from": app("client")}]))
    lab.verb("daemon", "h1", "kill")
    try:
        assert talk(lab, world, "far", "web") == "ok"
        assert talk(lab, world, "stranger", "web") == "ECONNREFUSED"
    finally:
        lab.verb("daemon", "h1", "start")
    assert talk(lab, world, "far", "web") == "ok"
    assert talk(lab, world, "stranger", "web") == "ECONNREFUSED"
