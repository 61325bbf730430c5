# SPDX-License-Identifier: Apache-2.0
"""slimd --metrics: what it says, to whom, and what becomes of everything that is not GET /metrics."""

import random
import re

import pytest

from conftest import lab_up, wait_until
from remote import Remote
from test_daemon import Client

PORT = 9511
V6_PORT = 9512


@pytest.fixture(scope="module")
def lab():
    with lab_up(hosts=1) as up:
        up.verb("daemon", "h1", "stop")
        up.verb("daemon", "h1", "start", "--", "--metrics", f"127.0.0.1:{PORT}")
        yield up


HTTP = f"""
def http(request, port={PORT}, address='127.0.0.1', family=socket.AF_INET):
    # All that comes back until the other end hangs up, or says nothing for a while.
    with socket.socket(family) as s:
        s.connect((address, port))
        with contextlib.suppress(OSError):
            s.sendall(request)
        got = b''
        with contextlib.suppress(ConnectionResetError):
            while part := s.recv(65536):
                got += part
        return got
def get(path='/metrics', method='GET', **kwargs):
    return http(f'{{method}} {{path}} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n'.encode(), **kwargs)
"""


@pytest.fixture(scope="module")
def h1(lab):
    with Remote.host(lab, "h1") as r:
        r.do(HTTP)
        yield r


def split(answer):
    """Status, headers and body of an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
    return int(re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", status)[1]), headers, body


# --- the text -------------------------------------------------------------------------------------

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf'({NAME})(?:\{{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*",?)+)\}})? ([0-9]+)')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')


def parse(text):
    """
    {name: {labels: value}} of Prometheus' text format, or a failed test: each family once, HELP and
    TYPE before its samples, which are of that family alone and all different.
    """
    assert text.endswith("\n") and "\r" not in text and "\n\n" not in text
    families, types, current = {}, {}, None
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if line.startswith("# HELP "):
            name, words = re.fullmatch(rf"# HELP ({NAME}) (\S.*\.)", line).groups()
            assert name not in families, line
            assert lines[i + 1].startswith(f"# TYPE {name} ")
            current, families[name] = name, {}
        elif line.startswith("# TYPE "):
            name, kind = re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge)", line).groups()
            assert name == current and name not in types and not families[name]
            types[name] = kind
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            name, labels, value = found.groups()
            labels = tuple(LABEL.findall(labels or ""))
            assert name == current and name in types, line
            assert labels not in families[name], line
            families[name][labels] = int(value)
    for name, samples in families.items():
        assert samples and name.startswith("slim_")
        assert (types[name] == "counter") == name.endswith("_total"), name
    return families


def metrics(r, **kwargs):
    arguments = ", ".join(f"{k}={v}" for k, v in kwargs.items())
    status, headers, body = split(r(f"get({arguments})"))
    assert status == 200 and int(headers["content-length"]) == len(body)
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parse(body.decode())


def value(found, name):
    (labels, n), = found[name].items()
    assert labels == ()
    return n


def by(found, name, label):
    assert all(len(labels) == 1 and labels[0][0] == label for labels in found[name])
    return {labels[0][1]: n for labels, n in found[name].items()}


def settled(lab, r, condition):
    """The metrics once the condition holds of them: the text may be a second old."""
    wait_until(lambda: condition(metrics(r)), "the metrics to be new")
    return metrics(r)


def test_what_it_says(lab, h1):
    with Remote.slim(lab, "h1", "one") as one, Remote.plain(lab, "h1", "two"), Client(lab) as c:
        c.call("Event.Monitor")
        one.do("l = listen('0.0.0.0', 80); s = socket.socket(); "
               "e = [s.connect_ex(('10.77.200.200', 80)) for _ in range(7)]")
        status = lab.ctl("h1", "status")
        found = settled(lab, h1, lambda m: value(m, "slim_local_endpoints") == 2 and by(
            m, "slim_events_total", "reason")["connect_no_endpoint"] >= 7)
    assert found["slim_build_info"] == {(("version", status["version"]),): 1}
    assert value(found, "slim_start_time_seconds") > 1700000000
    assert value(found, "slim_networks") == status["networks"] == 1
    assert value(found, "slim_hosts") == len(status["hosts"]) == 1
    assert value(found, "slim_endpoints") == status["endpoints"] == 2
    assert value(found, "slim_policies") == 0
    assert value(found, "slim_brokers") == 1
    assert value(found, "slim_monitors") == status["monitors"] == 1
    assert value(found, "slim_store_up") == value(found, "slim_policies_in_force") == 1

    reasons = by(found, "slim_events_total", "reason")
    counters = {k: v for k, v in status["counters"].items() if k not in ("syn_accepted", "event_lost")}
    assert reasons == counters
    assert value(found, "slim_events_lost_total") == status["counters"]["event_lost"]
    assert value(found, "slim_syns_accepted_total") == status["counters"]["syn_accepted"]

    entries = by(found, "slim_map_entries", "map")
    room = by(found, "slim_map_max_entries", "map")
    assert set(entries) == set(room) >= set(status["maps"])
    assert {k: entries[k] for k in status["maps"]} == status["maps"]
    assert entries["devices"] == 2 and entries["listeners"] == entries["ports"] == 1
    assert all(entries[k] <= room[k] for k in entries)
    assert (room["ports"], room["policy_rules"]) == (262144, 1048576)


def test_counters_go_on(lab, h1):
    before = metrics(h1)
    lab.verb("daemon", "h1", "stop")
    lab.verb("daemon", "h1", "start", "--", "--metrics", f"127.0.0.1:{PORT}")
    after = metrics(h1)
    assert set(before) == set(after)
    for name in before:
        if name.endswith("_total"):
            assert all(after[name][k] >= n for k, n in before[name].items()), name


# --- HTTP -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/", 404),
    ("GET", "/metrics/", 404),
    ("GET", "/Metrics", 404),
    ("GET", "/metrics/../metrics", 404),
    ("GET", "//metrics", 404),
    ("GET", "/etc/passwd", 404),
    ("POST", "/", 404),
    ("POST", "/metrics", 405),
    ("PUT", "/metrics", 405),
    ("DELETE", "/metrics", 405),
    ("HEAD", "/metrics", 405),
    ("OPTIONS", "/metrics", 405),
    ("get", "/metrics", 405),
    ("NONSENSE", "/metrics", 405),
    ("GET", "/metrics?x=y", 200),
])
def test_all_else(lab, h1, method, path, status):
    answer, headers, body = split(h1(f"get({path!r}, {method!r})"))
    assert answer == status
    assert (headers.get("allow") == "GET") == (status == 405)
    assert (body == b"") == (method == "HEAD")


def test_a_body_is_not_read(lab, h1):
    answer = h1("http(b'POST /metrics HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 100000000\\r\\n\\r\\n' + b'x' * 1000)")
    assert split(answer)[0] == 405


def test_one_answer_for_a_connection(lab, h1):
    answer = h1("http(b'GET /metrics HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' * 3)")
    assert answer.count(b"HTTP/1.1 200 ") == 1 and split(answer)[1]["connection"] == "close"


def alive(lab, h1, pid):
    metrics(h1)
    assert lab.ctl("h1", "status")["pid"] == pid


def test_garbage(lab, h1):
    """Whatever comes: slimd goes on, with as many descriptors, and answers the next one."""
    pid = lab.ctl("h1", "status")["pid"]
    descriptors = f"len(os.listdir('/proc/{pid}/fd'))"
    before = h1(descriptors)
    rng = random.Random(511)
    garbage = [
        b"\0" * 5000, b"\r\n" * 5000, b"GET", b"GET /metrics", b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n", b"GET  /metrics  HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200000 + b"\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"GET /%00%ff/../metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"GET \xff\xfe HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] + [rng.randbytes(rng.randrange(1, 3000)) for _ in range(60)]
    h1.do("""
def throw(data):
    # And away, whether or not there is an answer.
    with socket.socket() as s:
        s.connect(('127.0.0.1', %d))
        s.settimeout(0.1)
        with contextlib.suppress(OSError):
            s.sendall(data)
            while s.recv(65536):
                pass
""" % PORT)
    for data in garbage:
        h1.do(f"throw({data!r})")
    alive(lab, h1, pid)
    wait_until(lambda: h1(descriptors) <= before, "slimd to have closed what it opened")


def test_many_connections(lab, h1):
    """More than it serves at a time, all silent: the rest waits until they are cut off."""
    pid = lab.ctl("h1", "status")["pid"]
    descriptors = f"len(os.listdir('/proc/{pid}/fd'))"
    before = h1(descriptors)
    h1.do(f"crowd = [socket.create_connection(('127.0.0.1', {PORT})) for _ in range(24)]")
    wait_until(lambda: h1(descriptors) >= before + 15, "some to be served")
    assert h1(descriptors) <= before + 20
    assert lab.ctl("h1", "status")["pid"] == pid  # the API does not wait
    # Nobody has said a word. They go, and then it is others' turn.
    alive(lab, h1, pid)
    h1.do("for s in crowd: s.close()")
    wait_until(lambda: h1(descriptors) <= before, "all to have been closed")


# --- where ----------------------------------------------------------------------------------------


def test_only_where_it_was_asked_for(lab, h1):
    assert h1(f"connect_error('192.0.2.1', {PORT})") == "ECONNREFUSED"
    assert h1(f"connect_error('::1', {PORT}, socket.AF_INET6)") == "ECONNREFUSED"
    with Remote.host(lab, "net") as net, Remote.slim(lab, "h1", "inside") as inside:
        assert net(f"connect_error('192.0.2.1', {PORT})") == "ECONNREFUSED"
        assert inside(f"connect_error('127.0.0.1', {PORT})") == "ECONNREFUSED"
        assert inside(f"connect_error('192.0.2.1', {PORT})") == "ECONNREFUSED"


def again(lab, *options):
    lab.verb("daemon", "h1", "stop")
    return lab.verb("daemon", "h1", "start", *(["--", *options] if options else []), check=False)


def test_other_addresses_and_none(lab, h1):
    try:
        assert again(lab).returncode == 0
        assert h1(f"connect_error('127.0.0.1', {PORT})") == "ECONNREFUSED"
        assert again(lab, "--metrics", f"[::]:{V6_PORT}").returncode == 0
        metrics(h1, port=V6_PORT, address="'::1'", family="socket.AF_INET6")
        assert h1(f"connect_error('127.0.0.1', {V6_PORT})") == "ECONNREFUSED"
        assert again(lab, "--metrics", f"0.0.0.0:{PORT}").returncode == 0
        metrics(h1, address="'192.0.2.1'")
    finally:
        again(lab, "--metrics", f"127.0.0.1:{PORT}")
    metrics(h1)


def test_the_port_is_taken(lab, h1):
    h1.do("h = listen('127.0.0.1', 9599)")
    try:
        done = again(lab, "--metrics", "127.0.0.1:9599")
        assert done.returncode == 1 and "127.0.0.1:9599" in done.stderr and "in use" in done.stderr
    finally:
        h1.do("h.close()")
        lab.verb("daemon", "h1", "start", "--", "--metrics", f"127.0.0.1:{PORT}")
