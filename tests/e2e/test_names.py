# SPDX-License-Identifier: Apache-2.0
"""
Sockets that end, or begin anew: what one is called when its connection is gone, when its port is
free again, and that a listener stays hidden when it listens once more.
"""

import errno
import json

import pytest

from conftest import wait_until

# The ends of a connection as the server names them, before and after the client has reset it.
RESET_SERVER = """
import json, socket
s = socket.create_server((ADDRESS, 8080), family=FAMILY,
                         dualstack_ipv6=FAMILY == socket.AF_INET6)
print("ready", flush=True)
c, peer = s.accept()
before = c.getsockname()
try:
    c.recv(1)
    error = None
except ConnectionResetError as e:
    error = e.errno
print(json.dumps([peer, before, error, c.getsockname()]), flush=True)
"""

RESET_CLIENT = """
import socket, struct, sys
s = socket.create_connection((sys.argv[1], 8080), timeout=20)
print(s.getsockname()[1])
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()
"""


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
def test_a_reset_connection_keeps_its_name(lab, family):
    """As nginx wants it for its log when a client goes in the middle of an answer."""
    code = RESET_SERVER.replace("ADDRESS", repr("0.0.0.0" if family == "AF_INET" else "::"))
    code = code.replace("FAMILY", f"socket.{family}")
    with lab.start("run", "h2", "server", "/usr/bin/python3", "-c", code, ready="ready") as server:
        port = int(lab.run("h1", "client", "/usr/bin/python3", "-c", RESET_CLIENT,
                           lab.ip("server")).stdout)
        wait_until(lambda: server.poll() is not None, "the server to end")
        with open(server.log) as log:
            peer, before, error, after = json.loads(log.read().splitlines()[1])
    prefix = "" if family == "AF_INET" else "::ffff:"
    assert error == errno.ECONNRESET
    assert peer[:2] == [prefix + lab.ip("client"), port]
    assert before[:2] == [prefix + lab.ip("server"), 8080]
    assert after == before


# Closed by the program means closed: the broker has no share in a socket that it has handed out.
CLOSED = """
import json, socket
taken = 0
for i in range(300):
    early = socket.socket()
    late = socket.socket()
    late.bind(("127.0.0.1", 0))
    port = late.getsockname()[1]
    late.close()
    try:
        early.bind(("0.0.0.0", port))
    except OSError as e:
        taken += 1
    early.close()
print(json.dumps(taken))
"""


def test_a_port_is_free_at_once(lab):
    assert lab.python("h1", "client", CLOSED) == 0


LISTEN_AGAIN = """
import socket
s = socket.create_server(("0.0.0.0", 8080))
s.shutdown(socket.SHUT_RDWR)
s.listen()
print("ready", flush=True)
while True:
    c, _ = s.accept()
    c.sendall(b"served")
    c.close()
"""

TALK = """
import json, socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as s:
        print(json.dumps(s.recv(100).decode()))
except OSError as e:
    print(json.dumps(e.errno))
"""


def test_a_listener_that_listens_again_is_hidden_again(lab):
    """shutdown() gives its host port up, and listen() takes another one."""
    with lab.start("run", "h2", "server", "/usr/bin/python3", "-c", LISTEN_AGAIN, ready="ready"):
        assert lab.python("h1", "client", TALK, lab.ip("server"), 8080) == "served"
        listener, = [c for c in lab.ctl("h2", "connection", "ls", "--name", "server")["connections"]
                     if c["state"] == "listen"]
        assert listener["local"] == "0.0.0.0:8080"
        address = lab.ctl("h2", "status")["underlay_address"]
        port = listener["host_local"].rsplit(":", 1)[1]
        said = lab.host("net", "/usr/bin/python3", "-c", TALK, address, port)
        assert json.loads(said.stdout) == errno.ECONNREFUSED
