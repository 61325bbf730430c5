# SPDX-License-Identifier: Apache-2.0
"""
The TCP and HTTP tests of Go, Twisted and Tornado, as Debian packages them, with host networking, in
a plain container and in a Slim container at the same time: every single test has the same outcome.

A plain container has a Slim container's addresses, routes and lack of a DNS, but the kernel's own
sockets: nothing may differ from it. Host networking differs from both by what the host has and no
container has, its IPv6 link-local address; nothing else may.
"""

import collections
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from conftest import ROOT

HERE = pathlib.Path(__file__).parent
PYTHON = "/usr/bin/python3"

# What a whole run may take before it is taken to hang.
PATIENCE = 240


# --- three runs, compared -------------------------------------------------------------------------


@pytest.fixture
def directory(lab, request):
    """Goes with the lab, like what the tests write there."""
    path = pathlib.Path("/run/slim-lab") / lab.id / "suites" / request.node.name
    path.mkdir(parents=True)
    return path


def run_thrice(lab, directory, argv_of, outcomes_of, cwd):
    """{where: {test: outcome}}"""
    runs = {"host": (lab.host, "h1"), "plain": (lab.plain, "h2", "plain-suite"),
            "slim": (lab.run, "h1", "slim-suite")}
    outcomes = {}
    with concurrent.futures.ThreadPoolExecutor(len(runs)) as pool:
        started = {}
        for name, (verb, *where) in runs.items():
            place = directory / name
            place.mkdir(parents=True)
            # No run has to end with 0: failures are what the comparison is for.
            started[name] = pool.submit(verb, *where, *argv_of(place / "report"), check=False,
                                        timeout=PATIENCE, cwd=cwd or place)
        for name, future in started.items():
            done = future.result()
            outcomes[name] = outcomes_of(directory / name / "report", done.stdout + done.stderr)
    for name, found in outcomes.items():
        print(f"{name}:", dict(collections.Counter(found.values())))
    return outcomes


def compare(lab, directory, argv_of, outcomes_of, cwd=None, host_only=()):
    """
    Runs argv_of(report) and compares outcomes_of(report, output), {test: outcome}. host_only:
    patterns of tests that may be skipped in containers though they pass on the host. What passed.

    Many of these tests give something a time to happen in, which a busy machine misses here or
    there. So what differs is run again, and must not differ in the same way twice.
    """
    def unexpected(outcomes):
        host, plain, slim = outcomes["host"], outcomes["plain"], outcomes["slim"]
        found = {("plain", test, *both) for test, both in differences(plain, slim).items()}
        for test, both in differences(host, slim).items():
            if both != ("passed", "skipped") or not any(re.search(p, test) for p in host_only):
                found.add(("host", test, *both))
        return found

    accepted = lab.ctl("h1", "status")["counters"]["syn_accepted"]
    outcomes = run_thrice(lab, directory / "first", argv_of, outcomes_of, cwd)
    found = unexpected(outcomes)
    if found:
        print("again, since these differ:", sorted(found))
        outcomes = run_thrice(lab, directory / "second", argv_of, outcomes_of, cwd)
        assert not found & unexpected(outcomes)
    slim = outcomes["slim"]
    # They really went through Slim.
    status = lab.ctl("h1", "status")
    assert status["counters"]["syn_accepted"] > accepted
    # And left nothing behind.
    assert {name: status["maps"][name] for name in ("ports", "listeners", "syns")} == {
        "ports": 0, "listeners": 0, "syns": 0}
    return {test for test, outcome in slim.items() if outcome == "passed"}


def differences(one, other):
    return {test: (one.get(test), other.get(test)) for test in one.keys() | other.keys()
            if one.get(test) != other.get(test)}


# --- Go -------------------------------------------------------------------------------------------

GO_ENV = {"PATH": "/usr/bin:/bin", "CGO_ENABLED": "0"}

# They look at Go's sources, or want a DNS that answers.
NOT_SOCKETS = {"TestCmdGoNoHTTPServer", "TestOmitHTTP2", "TestOmitHTTP2Vet",
               "TestTransportEventTraceRealDNS"}

# What -short leaves out of net's tests and needs neither the internet nor more than a second or two.
NET_LONG = {"TestTCPServer", "TestTCPListenerName", "TestDialListenerAddr",
            "TestWildWildcardListener", "TestDialerFallbackDelay", "TestCancelAfterDial",
            "TestProhibitionaryDialArg", "TestDualStackTCPListener"}


@pytest.fixture(scope="module")
def go_tests():
    """A directory with one static test program for each package; made once for a version of Go."""
    def go(*argv, **kwargs):
        return subprocess.run(["go", *argv], check=True, stdout=subprocess.PIPE, text=True,
                              **kwargs).stdout.strip()

    build = pathlib.Path(os.environ.get("SLIM_BUILD") or ROOT / "build")
    with tempfile.TemporaryDirectory(prefix="go-tests-", dir=build) as work:
        env = dict(GO_ENV, HOME=work, GOCACHE=f"{work}/cache")
        made = build / "go-tests" / go("env", "GOVERSION", env=env)
        if not made.exists():
            programs = pathlib.Path(work) / "programs"
            programs.mkdir()
            for package in ("net", "net/http"):
                go("test", "-c", "-o", programs / package.replace("/", "-"), package, env=env)
            shutil.rmtree(made.parent, ignore_errors=True)  # another version's
            made.parent.mkdir()
            programs.rename(made)
    return made


def go_outcomes(_, output):
    words = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}
    found = {test: words[word] for word, test in
             re.findall(r"--- (PASS|FAIL|SKIP): (\S+) \([0-9.]+s\)", output)}
    # One that began and never ended was running when the program crashed.
    for test in re.findall(r"^=== RUN +(\S+)", output, re.MULTILINE):
        found.setdefault(test, "unfinished")
    return found


def compare_go(lab, directory, go_tests, package, wanted, *options):
    program = go_tests / package.replace("/", "-")
    # The tests read files beside them.
    sources = pathlib.Path(subprocess.run(["go", "list", "-f", "{{.Dir}}", package], check=True,
                                          env=dict(GO_ENV, HOME=str(directory)), text=True,
                                          stdout=subprocess.PIPE).stdout.strip())
    listed = subprocess.run([program, "-test.list", "."], check=True, stdout=subprocess.PIPE,
                            text=True, cwd=sources).stdout.split()
    names = [name for name in listed if name.startswith(("Test", "Example")) and wanted(name)]
    argv = [program, "-test.v", f"-test.timeout={PATIENCE // 2}s",
            "-test.run", f"^({'|'.join(names)})$", *options]
    return compare(lab, directory, lambda _: argv, go_outcomes, cwd=sources)


def test_go_net(lab, directory, go_tests):
    passed = compare_go(lab, directory, go_tests, "net", lambda name: name not in NOT_SOCKETS,
                        "-test.short")
    assert len(passed) > 300


def test_go_net_long(lab, directory, go_tests):
    passed = compare_go(lab, directory, go_tests, "net", NET_LONG.__contains__)
    assert NET_LONG <= passed


def test_go_http(lab, directory, go_tests):
    passed = compare_go(lab, directory, go_tests, "net/http",
                        lambda name: name not in NOT_SOCKETS, "-test.short")
    assert len(passed) > 600


# --- Twisted, Tornado -----------------------------------------------------------------------------

TWISTED = ["twisted.internet.test.test_tcp", "twisted.internet.test.test_endpoints",
           "twisted.internet.test.test_socket", "twisted.test.test_tcp",
           "twisted.test.test_internet", "twisted.test.test_ftp", "twisted.test.test_amp",
           "twisted.spread.test.test_pb", "twisted.web.test.test_http", "twisted.web.test.test_web",
           "twisted.web.test.test_webclient", "twisted.web.test.test_wsgi",
           "twisted.web.test.test_xmlrpc"]

# test_request_timeout gives a whole fetch 0.1 s, which a busy machine misses.
TORNADO = ["tornado.test.httpserver_test", "tornado.test.httpclient_test",
           "tornado.test.simple_httpclient_test", "tornado.test.iostream_test",
           "tornado.test.tcpserver_test", "tornado.test.tcpclient_test",
           "tornado.test.http1connection_test", "tornado.test.websocket_test",
           "tornado.test.netutil_test", "-test_request_timeout"]


def python_suite(how, modules):
    # Tornado's tests have 5 s each otherwise, and fail on a busy machine.
    return lambda report: ["/usr/bin/env", "ASYNC_TEST_TIMEOUT=60", PYTHON, "-W", "ignore",
                           HERE / "programs" / "suite.py", how, report, *modules]


def python_outcomes(report, output):
    assert report.exists(), output
    return json.loads(report.read_text())


def test_twisted(lab, directory):
    passed = compare(lab, directory, python_suite("trial", TWISTED), python_outcomes,
                     host_only=["TCP6", "IPv6"])
    assert len([test for test in passed if ".test_tcp." in test]) > 300
    assert len([test for test in passed if ".web." in test]) > 500


def test_tornado(lab, directory):
    passed = compare(lab, directory, python_suite("unittest", TORNADO), python_outcomes)
    assert len(passed) > 300
