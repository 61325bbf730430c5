# SPDX-License-Identifier: Apache-2.0
"""Labels and named ports: given, changed, refused, seen on every host, and kept."""

import contextlib
import json
import subprocess

import pytest

from conftest import PATIENCE, read_line, wait_until


def ctl(lab, *words, host="h1"):
    return lab.verb("ctl", host, "--", *words, check=False)


def one_line(done, *named, status=1):
    lines = done.stderr.splitlines()
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert len(lines) == 1 and done.stdout == "", (done.stdout, done.stderr)
    for text in named:
        assert text in lines[0], done.stderr


@contextlib.contextmanager
def running(lab, name, *options, host="h1"):
    process = subprocess.Popen(
        lab.command("ctl", host, "--", "run", "--name", name, *options, "--", "sh", "-c",
                    "echo ready; exec sleep 1000"),
        text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        if read_line(process) != "ready\n":
            pytest.fail(f"{name}: {process.stderr.read()}")
        yield process
    finally:
        process.kill()
        process.communicate()
        wait_until(lambda: name not in
                   [e["name"] for e in lab.ctl(host, "endpoint", "ls")["endpoints"]],
                   f"{name} to go")


def shown(lab, name, host="h1"):
    return lab.ctl(host, "endpoint", "show", name)["endpoint"]


def test_labels_of_a_container(lab):
    with running(lab, "web", "--label", "app=web", "--label", "example.com/tier=", "--port",
                 "http=8080", "--port", "dns=53/udp"):
        for host in ("h1", "h2"):
            web = shown(lab, "web", host)
            assert web["labels"] == {"app": "web", "example.com/tier": ""}
            assert web["ports"] == {"http": "8080/tcp", "dns": "53/udp"}
        text = ctl(lab, "endpoint", "show", "web").stdout
        assert "app=web,example.com/tier=" in text and "dns=53/udp,http=8080/tcp" in text
        assert "LABELS" not in ctl(lab, "endpoint", "ls").stdout
        text = ctl(lab, "endpoint", "ls", "--labels").stdout
        assert "LABELS" in text and "app=web,example.com/tier=" in text

        changed = ctl(lab, "endpoint", "label", "web", "app=db", "example.com/tier-", "new=1")
        assert (changed.returncode, changed.stdout, changed.stderr) == (0, "", "")
        for host in ("h1", "h2"):
            assert shown(lab, "web", host)["labels"] == {"app": "db", "new": "1"}
        assert lab.ctl("h1", "endpoint", "label", "web", "gone-")["endpoint"]["labels"] == {
            "app": "db", "new": "1"}

        # Only where it lives, which the refusal says.
        one_line(ctl(lab, "endpoint", "label", "web", "app=x", host="h2"), '"web"', "h1")
        one_line(ctl(lab, "endpoint", "label", "nobody", "app=x"), '"nobody"', "default")
        one_line(ctl(lab, "endpoint", "label", "web", "app=x", "--network", "red"), '"red"')

        # A new slimd has what the store had, whatever the old one remembered.
        lab.verb("daemon", "h1", "kill")
        lab.verb("daemon", "h1", "start")
        for host in ("h1", "h2"):
            assert shown(lab, "web", host)["labels"] == {"app": "db", "new": "1"}
            assert shown(lab, "web", host)["ports"] == {"http": "8080/tcp", "dns": "53/udp"}
        assert lab.ctl("h1", "endpoint", "label", "web", "app-", "new-")["endpoint"]["labels"] == {}
        assert shown(lab, "web", "h2")["labels"] == {}


def test_labels_of_hosts(lab):
    with running(lab, "guest"):  # somebody has to want the network
        hosts = {e["host"]: e["labels"] for e in lab.ctl("h1", "endpoint", "ls", "--all")["endpoints"]
                 if e["kind"] == "host"}
        assert hosts == {h: {"slim.io/kind": "host", "slim.io/host": h} for h in ("h1", "h2")}


BAD_RUNS = [
    (["--label", "app"], ["--label", "KEY=VALUE"]),
    (["--label", "=x"], ["--label", "key"]),
    (["--label", "app=a b"], ["--label", "a b"]),
    (["--label", "app=a", "--label", "app=b"], ["--label", "twice"]),
    (["--label", "slim.io/kind=host"], ["--label", "slim.io/kind"]),
    (["--label", "slim.io/host=h1"], ["--label", "slim.io/host"]),
    (["--port", "http"], ["--port", "NAME=NUMBER"]),
    (["--port", "HTTP=80"], ["--port", "HTTP"]),
    (["--port", "http=0"], ["--port", "65535"]),
    (["--port", "http=80/icmp"], ["--port", "sctp"]),
    (["--port", "http=80", "--port", "http=81"], ["--port", "twice"]),
]


@pytest.mark.parametrize("options, named", BAD_RUNS, ids=lambda v: " ".join(v))
def test_refused_when_it_is_run(lab, options, named):
    one_line(ctl(lab, "run", "--name", "bad", *options, "--", "true"), *named, status=2)


BAD_CHANGES = [
    (["web"], "missing"),
    (["web", "app"], "KEY=VALUE"),
    (["web", "app=-"], "value"),
    (["web", "a=1", "a=2"], "twice"),
    (["web", "slim.io/kind-"], "slim.io/kind"),
    (["Web", "a=1"], "Web"),
    (["web", *[f"k{i}=" for i in range(65)]], "too many"),
    ([], "missing"),
]


@pytest.mark.parametrize("noun", ["endpoint", "network"])
@pytest.mark.parametrize("words, named", BAD_CHANGES, ids=lambda v: "-".join(v)[:20])
def test_refused_changes(lab, noun, words, named):
    one_line(ctl(lab, noun, "label", *words), named, status=2)


def test_labels_of_a_network(lab):
    made = lab.ctl("h1", "network", "create", "blue", "--prefix", "10.90.0.0/16", "--label",
                   "team=red")
    assert made["network"]["labels"] == {"team": "red"}
    try:
        def labels(host):
            return {n["name"]: n["labels"] for n in lab.ctl(host, "network", "ls")["networks"]}

        assert labels("h2")["blue"] == {"team": "red"}
        before = lab.host("h1", "ip", "route", "show", "table", "all").stdout
        assert lab.ctl("h2", "network", "label", "blue", "team=green", "x=")["network"]["labels"] == {
            "team": "green", "x": ""}
        assert labels("h1")["blue"] == {"team": "green", "x": ""}
        assert lab.host("h1", "ip", "route", "show", "table", "all").stdout == before
        assert "team=green,x=" in ctl(lab, "network", "ls", "--labels").stdout
        assert "LABELS" not in ctl(lab, "network", "ls").stdout
        assert ctl(lab, "network", "label", "blue", "team-", "x-").returncode == 0
        assert labels("h2")["blue"] == {}
        one_line(ctl(lab, "network", "label", "red", "a=b"), '"red"')
        one_line(ctl(lab, "network", "label", "blue", "slim.io/x=1"), "slim.io/x")
        one_line(ctl(lab, "network", "label", "blue", "kubernetes.io/metadata.name=red"),
                 "kubernetes.io/metadata.name")
        one_line(ctl(lab, "network", "label", "blue", "kubernetes.io/metadata.name-"),
                 "kubernetes.io/metadata.name")
        one_line(ctl(lab, "network", "create", "red", "--prefix", "10.91.0.0/16", "--label",
                     "kubernetes.io/metadata.name=blue"), "kubernetes.io/metadata.name", status=2)
    finally:
        assert ctl(lab, "network", "rm", "blue").returncode == 0


def test_too_many_labels_are_refused_by_slimd(lab):
    lab.ctl("h1", "network", "create", "full", "--prefix", "10.92.0.0/16")
    try:
        lab.ctl("h1", "network", "label", "full", *[f"k{i}=" for i in range(64)])
        one_line(ctl(lab, "network", "label", "full", "one-more="), "64")
        lab.ctl("h1", "network", "label", "full", "one-more=", "k0-")
    finally:
        assert ctl(lab, "network", "rm", "full").returncode == 0


CALL = """
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\\0")
answer = b""
while not answer.endswith(b"\\0"):
    answer += s.recv(65536)
print(answer[:-1].decode())
"""


def call(lab, method, parameters, host="h1"):
    """Past slimctl, which refuses most of it itself."""
    done = lab.host(host, "/usr/bin/python3", "-c", CALL,
                    f"/run/slim-lab/{lab.id}/{host}/run/slimd.sock",
                    json.dumps({"method": method, "parameters": parameters}), timeout=PATIENCE)
    return json.loads(done.stdout)


@pytest.mark.parametrize("method, parameters, named", [
    ("Network.Create", {"name": "red", "prefix": "10.93.0.0/16", "labels": []}, "object"),
    ("Network.Create", {"name": "red", "prefix": "10.93.0.0/16", "labels": {"a": 1}}, "text"),
    ("Network.Create", {"name": "red", "prefix": "10.93.0.0/16", "labels": {"slim.io/a": ""}},
     "slim.io/a"),
    ("Network.Label", {"name": "default", "set": []}, "object"),
    ("Network.Label", {"name": "default", "remove": {}}, "array"),
    ("Network.Label", {"name": "default", "remove": [1]}, "text"),
    ("Network.Label", {"name": "default", "set": {"a": "b"}, "remove": ["a"]}, "both"),
    ("Network.Label", {"name": "default", "labels": {}}, "labels"),
    ("Endpoint.Add", {"name": "x", "kind": "plain", "pid": 1, "labels": {"slim.io/kind": "host"}},
     "slim.io/kind"),
    ("Endpoint.Add", {"name": "x", "kind": "plain", "pid": 1, "labels": 7}, "object"),
    ("Endpoint.Add", {"name": "x", "kind": "plain", "pid": 1, "ports": {"http": 80}}, "http"),
    ("Endpoint.Add", {"name": "x", "kind": "plain", "pid": 1, "ports": {"http": "80/icmp"}},
     "sctp"),
])
def test_refused_by_slimd(lab, method, parameters, named):
    answer = call(lab, method, parameters)
    assert answer["errno"] == 22 and named in answer["error"], answer
