# SPDX-License-Identifier: Apache-2.0
"""A connection between two hosts, as both programs see it."""

SERVER = """
import socket
s = socket.create_server(("0.0.0.0", 8080))
print("ready", flush=True)
while True:
    c, a = s.accept()
    c.sendall(repr([a, c.getpeername(), c.getsockname()]).encode())
    c.close()
"""

CLIENT = """
import json, socket, sys
s = socket.create_connection((sys.argv[1], 8080), timeout=20)
seen = b"".join(iter(lambda: s.recv(4096), b""))
print(json.dumps([s.getsockname(), s.getpeername(), eval(seen)]))
"""


def test_both_ends_see_overlay_addresses(lab):
    server = lab.ip("server")
    with lab.start("run", "h1", "server", "/usr/bin/python3", "-c", SERVER, ready="ready"):
        local, peer, (accepted, server_peer, server_local) = lab.python("h2", "client", CLIENT, server)
    assert local[0] == lab.ip("client")
    assert peer == [server, 8080]
    assert accepted == local
    assert server_peer == local
    assert server_local == [server, 8080]


def test_a_container_knows_its_own_name(lab):
    code = "import json, socket; print(json.dumps(socket.gethostbyname(socket.gethostname())))"
    assert lab.python("h1", "named", code) == lab.ip("named")
