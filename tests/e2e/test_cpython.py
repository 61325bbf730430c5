# SPDX-License-Identifier: Apache-2.0
"""
CPython's own tests of sockets and of what is built on them, with host networking and in a Slim
container at the same time: whatever passes there passes here.
"""

import collections
import concurrent.futures
import pathlib
import re
import xml.etree.ElementTree as ElementTree

import pytest

PYTHON = "/usr/bin/python3"

SOCKET = ["test_socket", "test_socketserver"]
PROTOCOLS = ["test_httplib", "test_httpservers", "test_ftplib", "test_smtplib", "test_poplib",
             "test_telnetlib", "test_asyncore", "test_asynchat", "test_urllib2_localnet",
             "test_wsgiref", "test_epoll"]
ASYNCIO = ["test_server", "test_sock_lowlevel", "test_streams", "test_sendfile", "test_events"]

# The classes of test_socket whose sockets are TCP.
TCP = re.compile(r"\.(BasicTCPTest\w*|NonBlockingTCPTests|\w*FileObject\w+|"
                 r"NetworkConnection\w+|TCPTimeoutTest|TCPCloserTest|CreateServer\w*|"
                 r"SendfileUsing\w+|SendmsgTCPTest|Recvmsg(?:Into)?TCPTest|InterruptedSendTimeoutTest|"
                 r"GeneralModuleTests)\.")

# What a whole run may take before it is taken to hang; each test has less.
PATIENCE = 240
TEST_PATIENCE = 120


def regrtest(report, modules, options):
    return [PYTHON, "-m", "test", "-W", "-j2", "-u", "network", "--timeout", TEST_PATIENCE,
            "--junit-xml", report, *options, *modules]


def outcomes(report):
    """{test: passed, skipped or failed}"""
    found = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            outcome = "failed"
        elif case.find("skipped") is not None:
            outcome = "skipped"
        else:
            outcome = "passed" if case.get("result") == "completed" else "failed"
        # Subtests have their test's name too: the worst one counts.
        if found.get(case.get("name")) != "failed":
            found[case.get("name")] = outcome
    return found


def compare(lab, directory, modules, *options):
    """Runs modules on both; what passed on the host, after it has passed in the container too."""
    reports = {"host": directory / "host.xml", "slim": directory / "slim.xml"}
    accepted = lab.ctl("h1", "status")["counters"]["syn_accepted"]
    # Failures are what the comparison is for: no run has to end with 0.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        host = pool.submit(lab.host, "h1", *regrtest(reports["host"], modules, options),
                           check=False, timeout=PATIENCE, cwd=directory)
        slim = pool.submit(lab.run, "h1", "python",
                           *regrtest(reports["slim"], modules, options), check=False, timeout=PATIENCE,
                           cwd=directory)
        said = {"host": host.result(), "slim": slim.result()}
    for where, report in reports.items():
        assert report.exists(), f"{where}: {said[where].stdout}{said[where].stderr}"
    on_host, in_slim = outcomes(reports["host"]), outcomes(reports["slim"])
    print("host:", dict(collections.Counter(on_host.values())),
          "Slim:", dict(collections.Counter(in_slim.values())))
    passed = {test for test, outcome in on_host.items() if outcome == "passed"}
    lost = {test: in_slim.get(test) for test in passed if in_slim.get(test) != "passed"}
    assert not lost, f"{lost}\n{said['slim'].stdout}{said['slim'].stderr}"
    # They really went through Slim.
    status = lab.ctl("h1", "status")
    assert status["counters"]["syn_accepted"] > accepted
    # And left nothing behind.
    assert {name: status["maps"][name] for name in ("ports", "listeners", "syns")} == {
        "ports": 0, "listeners": 0, "syns": 0}
    return passed


@pytest.fixture
def directory(lab, request):
    """Goes with the lab, like what the tests write there."""
    path = pathlib.Path("/run/slim-lab") / lab.id / "cpython" / request.node.name
    path.mkdir(parents=True)
    return path


def test_socket_modules(lab, directory):
    # A VSOCK connection to this machine itself never ends on some machines, and is not ours.
    passed = compare(lab, directory, SOCKET, "-i", "*VSOCK*")
    tcp = {test for test in passed if TCP.search(test)}
    print("TCP:", len(tcp), "socketserver:", len([t for t in passed if "test_socketserver" in t]))
    assert len(tcp) > 250
    assert len([t for t in passed if ".test_socketserver." in t]) >= 20


def test_protocol_modules(lab, directory):
    # test_networked…: servers of the internet.
    assert len(compare(lab, directory, PROTOCOLS, "-i", "*test_networked*")) > 500


def test_asyncio(lab, directory):
    options = [word for name in ASYNCIO for word in ("-m", f"test.test_asyncio.{name}.*")]
    # The same tests again with poll() and select(): asyncio itself takes epoll.
    options += ["-i", "*.PollEventLoopTests.*", "-i", "*.SelectEventLoopTests.*"]
    assert len(compare(lab, directory, ["test_asyncio"], *options)) > 200
