# SPDX-License-Identifier: Apache-2.0
"""
The benchmark as a program: a short run, its report, comparing, wrong command lines, and what is left of it
when it is killed. How fast anything is does not matter here.
"""

import copy
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time
import types
from xml.etree import ElementTree

import pytest

from conftest import PATIENCE, ROOT, wait_until

sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tools")]

from slimbench import compare, flood, order  # noqa: E402
from slimlab import place  # noqa: E402
from slimlab.system import LabError  # noqa: E402

BENCH = ROOT / "bench" / "bench"
BUILD = pathlib.Path(os.environ.get("SLIM_BUILD") or ROOT / "build")
LOAD = BUILD / "bench" / "load" / "load"
NETWORKS = ["host", "baseline", "plain", "slim"]

pytestmark = pytest.mark.timeout(240)


def bench(*words, **kwargs):
    kwargs.setdefault("timeout", 200)
    return subprocess.run([str(BENCH), *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, **kwargs)


def one_line(done):
    """What it said on standard error, a line."""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("bench: "), done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One round of two workloads over all networks: the results, and the file."""
    path = tmp_path_factory.mktemp("bench") / "results.json"
    done = bench("run", "--json", path, "--rounds", 1, "--seconds", 1, "--load", 20,
                 "--workloads", "connect,nginx_1k_close_fixed")
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text()), path, done.stdout


def test_results(measured):
    results = measured[0]
    assert results["machine"]["kernel"] == os.uname().release
    assert results["machine"]["cpus"] >= 1 and results["machine"]["cpu"]
    assert "commit" in results
    assert [n["key"] for n in results["networks"]] == NETWORKS
    assert [w["key"] for w in results["workloads"]] == ["connect", "nginx_1k_close_fixed"]
    for workload in results["workloads"]:
        for network in NETWORKS:
            (sample,) = workload["samples"][network]
            for metric in workload["metrics"]:
                value = sample["values"][metric["key"]]
                assert math.isfinite(value) and value >= 0, metric
                # Soft interrupts are counted in ticks.
                assert value > 0 or metric["key"] == "softirq", (network, metric, sample["cpu"])
                assert workload["summary"][network][metric["key"]]["median"] == value
            used = sample["cpu"]
            assert used["wall"] > 0
            for side in ("server", "client"):
                assert used[side]["user"] + used[side]["system"] > 0
                # Only there is a broker, and only who connects much has much to do with his.
                if network != "slim":
                    assert used[side]["broker"] == 0
            if network == "slim":
                assert used["client"]["broker"] > 0
        slim = workload["samples"]["slim"][0]["values"]["mean_us"]
        host = workload["samples"]["host"][0]["values"]["mean_us"]
        assert workload["ratios"]["slim"]["mean_us"]["host"] == slim / host
    # A fifth of 1,500/s for a second.
    for network in NETWORKS:
        (sample,) = results["workloads"][1]["samples"][network]
        assert 270 <= sample["cpu"]["work"] <= 301


def test_report(measured, tmp_path):
    results, path, printed = measured
    text = bench("report", path, check=True).stdout
    assert text == printed
    for title in ("## Connections", "## nginx", "socket + connect + close: p50", "slim / baseline",
                  "nginx, 1 KB, connection per request, 300/s: server CPU"):
        assert title in text
    done = bench("report", path, "--dir", tmp_path / "report")
    assert (done.returncode, done.stdout) == (0, "")
    names = sorted(p.name for p in (tmp_path / "report").iterdir())
    assert names == ["connections-cpu.svg", "connections.svg", "nginx-cpu.svg", "nginx.svg", "report.md"]
    for name in names[:-1]:
        root = ElementTree.parse(tmp_path / "report" / name).getroot()
        assert root.tag.endswith("}svg")
        bars = [e for e in root.iter() if e.tag.endswith("}rect")]
        assert len(bars) > len(NETWORKS)
        assert all(float(e.get("height")) >= 0 for e in bars)
        assert f"]({name})" in (tmp_path / "report" / "report.md").read_text()


# --- compare --------------------------------------------------------------------------------------


def made(values, metrics=(("rate", "higher"),), networks=("host", "slim"), **more):
    """Results of one workload by hand: values[metric][network] is a list of rounds."""
    rounds = len(values[metrics[0][0]][networks[0]])
    samples = {n: [{"round": r, "values": {m: values[m][n][r] for m, _ in metrics},
                    "cpu": {"wall": 1, "others": 0}} for r in range(rounds)] for n in networks}
    return {"format": 1, "kind": "run", "commit": None, "changed": None, "machine": {}, "when": "",
            "rounds": rounds, "seconds": 1, "load": 100, "within": False,
            "cpus": {"server": 0, "client": 0},
            "networks": [{"key": n, "title": n, "ours": n not in ("host", "baseline")}
                         for n in networks],
            "workloads": [{"key": "w", "title": "W", "group": "g", "rate": 0, "work": "x",
                           "metrics": [{"key": m, "title": m, "unit": "", "better": b, "digits": 0,
                                        "judged": True} for m, b in metrics],
                           "samples": samples}], **more}


def compared(tmp_path, old, new, *options):
    for name, results in (("old", old), ("new", new)):
        (tmp_path / name).write_text(results if isinstance(results, str) else json.dumps(results))
    return bench("compare", tmp_path / "old", tmp_path / "new", *options)


HOST = [100, 104, 98, 101]


def rates(*slim, host=HOST, better="higher"):
    return made({"rate": {"host": list(host), "slim": list(slim)}}, (("rate", better),))


def test_compare(tmp_path):
    old = rates(98, 101, 97, 99)
    done = compared(tmp_path, old, rates(70, 72, 69, 71))
    assert done.returncode == 1
    assert done.stdout.startswith("worse   W: rate, slim / host: 0.9")
    assert "1 clearly worse, 0 clearly better, 0 as before or not clear" in done.stdout
    # The same the other way round, and for what is better when it is lower.
    assert compared(tmp_path, rates(70, 72, 69, 71), old).returncode == 0
    low = [rates(*some, better="lower") for some in ((98, 101, 97, 99), (70, 72, 69, 71))]
    assert compared(tmp_path, *low).stdout.startswith("better  W: rate")
    assert compared(tmp_path, *low[::-1]).returncode == 1


def test_compare_what_is_not_clear(tmp_path):
    old = rates(98, 101, 97, 99)
    # Itself; by less than 5 %; where the rounds lie far apart; where the machine was slower as a whole.
    slower = rates(49, 51, 48, 50, host=[v / 2 for v in HOST])
    for new in (old, rates(95, 98, 94, 96), rates(60, 99, 97, 70), slower):
        done = compared(tmp_path, old, new)
        assert (done.returncode, done.stdout) == \
            (0, "0 clearly worse, 0 clearly better, 1 as before or not clear\n")
    assert compared(tmp_path, old, old, "--all").stdout.startswith("same    W: rate, slim / host")


def test_compare_without_host(tmp_path):
    def run(*slim):
        return made({"rate": {"baseline": HOST, "slim": slim}}, networks=("baseline", "slim"))

    done = compared(tmp_path, run(98, 101, 97, 99), run(70, 72, 69, 71))
    assert done.returncode == 1 and "slim / baseline" in done.stdout
    alone = [made({"rate": {"slim": s}}, networks=("slim",)) for s in ([98, 101, 97, 99],
                                                                      [70, 72, 69, 71])]
    done = compared(tmp_path, *alone)
    assert done.returncode == 1 and "rate, slim: 98.5 → 70.5" in done.stdout


def test_compare_what_cannot_be(tmp_path, measured):
    good = rates(98, 101, 97, 99)
    broken = copy.deepcopy(good)
    del broken["workloads"][0]["samples"]["slim"][2]["values"]["rate"]
    text = copy.deepcopy(good)
    text["workloads"][0]["samples"]["slim"][2]["values"]["rate"] = "98"
    for bad, said in ((broken, "missing or wrong"), (text, "rate is no number"), ("{", "no results"),
                      ("[]", "no results"), ({**good, "format": 2}, "of format 2"),
                      ({**good, "kind": "scale"}, "of format 1"), ({**good, "workloads": []}, "nothing"),
                      ({**good, "within": True}, "--within"), ({**good, "load": 50}, "--load"),
                      (rates(98, 101, 97, host=HOST[:3]), "3 rounds"),
                      (made({"rate": {"host": HOST}}, networks=("host",)), "in common")):
        done = compared(tmp_path, good, bad)
        assert done.returncode == 2 and not done.stdout
        assert said in one_line(done)
    done = bench("compare", tmp_path / "old", tmp_path / "none")
    assert done.returncode == 2 and "No such file" in one_line(done)
    assert bench("compare", measured[1], measured[1]).returncode == 2  # of one round


def test_more_rounds_make_less_noise():
    values = [1 + k % 4 / 100 for k in range(16)]
    assert compare.noise(values) <= compare.noise(values[:4]) / 2


def test_orders():
    for n in range(1, 7):
        rows = order.orders(n)
        assert all(sorted(row) == list(range(n)) for row in rows)
        for column in zip(*rows):  # each is equally often at each place
            assert len({column.count(k) for k in range(n)}) == 1
        pairs = [pair for row in rows for pair in zip(row, row[1:])]  # and after each other one
        assert len({pairs.count((a, b)) for a in range(n) for b in range(n) if a != b}) <= 1


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [
    ["fly"], ["run"], ["run", "--json"], ["run", "--json", "x", "--rounds", "0"],
    ["run", "--json", "x", "--rounds", "1.5"], ["run", "--json", "x", "--seconds", "-1"],
    ["run", "--json", "x", "--networks", "slim,weave"], ["run", "--json", "x", "--networks", ""],
    ["run", "--json", "x", "--workloads", "nginx,apache"], ["run", "--json", "x", "--round", "1"],
    ["run", "--json", "x", "y"], ["report"], ["report", "a", "b"], ["compare", "a"], ["list", "all"],
    ["flood"], ["flood", "--json", "x", "--kinds", "quiet,storm"], ["flood", "--json", "x", "--rate", "0"],
    ["scale", "--json", "x", "--curves", "bell"], ["scale", "--json", "x", "--max", "none"]])
def test_wrong_command_line(words):
    done = bench(*words)
    assert done.returncode == 2 and not done.stdout
    assert "(bench/bench --help)" in one_line(done)


def test_help_and_list():
    for words in (["--help"], ["-h"]):
        done = bench(*words)
        assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("bench/bench VERB")
    done = bench()
    assert (done.returncode, done.stdout) == (2, "")
    listed = bench("list", check=True).stdout
    assert "memcached_fixed" in listed and "iperf3_8" in listed and "postgresql" in listed


def test_cannot_begin(tmp_path):
    done = bench("run", "--json", tmp_path / "x", "--bin", tmp_path)
    assert done.returncode == 1 and "build it with make" in one_line(done)
    done = bench("run", "--json", tmp_path / "no" / "x", "--workloads", "rr", "--networks", "host")
    assert done.returncode == 1 and "No such file" in one_line(done)
    done = bench("report", tmp_path / "x")
    assert done.returncode == 1 and "No such file" in one_line(done)


def alone(script, *arguments):
    """A shell script in a network namespace of its own, in which lo is up."""
    return subprocess.run(["unshare", "--net", "sh", "-c", f"ip link set lo up; {script}", "sh",
                           *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=PATIENCE)


@pytest.mark.parametrize("words,said", [
    ("192.0.2.1 9", "cannot reach the target: Network is unreachable"),
    ("127.0.0.1 9 --from ::/0", "--from is not of the family of the target"),
    ("::1 65535 --ports 2", "there is no port above 65535")])
def test_a_flood_that_cannot_be(words, said):
    done = alone(f'exec "$1" flood {words}', LOAD)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("load: ") and said in done.stderr and done.stderr.count("\n") == 1


def test_a_flood_ends_by_a_signal():
    """And says what it has sent."""
    done = alone('"$1" flood ::1 9 --rate 100 & flood=$!; sleep 0.3; kill $flood; wait $flood', LOAD)
    assert done.returncode == 0, done.stderr
    ready, found = done.stdout.splitlines()
    found = json.loads(found)
    assert ready == "ready" and found["total"] >= 1 and found["cpu_us"] > 0


def test_a_flood_needs_root():
    done = alone('exec setpriv --reuid 65534 --clear-groups "$1" flood 127.0.0.1 9', LOAD)
    assert done.returncode == 1 and "cannot open a raw socket: Operation not permitted" in done.stderr


@pytest.mark.parametrize("server,client,said", [
    ("greet", "http {a} --close", ""),
    ("echo-many", "http {a}", "Bad message"),
    ("accept", "first-byte {a}", "Connection reset"),
    ("accept", "storm {a}", "Connection reset"),
    ("greet", "cache {a}", "cannot set the keys"),
    ("echo-many", "cache {a}", "cannot set the keys"),
    ("echo-many", "log {a}", "cannot start the consumer"),
    ("greet", "ping {a}", "")])
def test_wrong_answers_are_no_result(server, client, said):
    """A generator counts nothing that is not what it asked for."""
    done = alone('"$1" $2 9 >/dev/null & server=$!; sleep 0.2; "$1" $3; status=$?; kill $server; '
                 "exit $status", LOAD, server, client.format(a="127.0.0.1 9"))
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("load: ") and said in done.stderr


def test_nobody_listens():
    for client in ("ping", "connect", "storm", "http", "cache", "log", "crowd"):
        done = alone('exec "$1" $2 127.0.0.1 9', LOAD, client)
        assert done.returncode == 1 and not done.stdout
        assert "Connection refused" in done.stderr and done.stderr.count("\n") == 1


# --- what is left ---------------------------------------------------------------------------------


def labs():
    return {p.name for p in pathlib.Path("/run/slim-lab").glob("bench-*")}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed(tmp_path, number):
    process = subprocess.Popen([str(BENCH), "run", "--json", tmp_path / "x", "--networks", "host",
                                "--workloads", "rr", "--seconds", "60"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    mine = f"bench-{process.pid}"
    log = pathlib.Path(f"/run/slim-lab/{mine}/bench/host/echo.log")
    try:
        wait_until(lambda: log.exists() or process.poll() is not None, "a server to start")
        time.sleep(0.3)  # within the measurement, or nearly
        process.send_signal(number)
        said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    if number == signal.SIGTERM:
        assert (process.returncode, said) == (130, ("", "bench: interrupted\n"))
    else:
        # The next one clears it away, whatever it does itself.
        assert mine in labs()
        assert bench("run", "--json", tmp_path / "y", "--networks", "host", "--workloads", "connect",
                     "--rounds", 1, "--seconds", 1).returncode == 0
    assert mine not in labs()
    assert not [p for p in pathlib.Path("/run/netns").iterdir() if mine in p.name]


def test_scale(tmp_path):
    path = tmp_path / "scale.json"
    done = bench("scale", "--json", path, "--curves", "endpoints", "--max", 10, "--networks", "slim",
                 "--rounds", 1)
    assert done.returncode == 0, done.stderr
    (curve,) = json.loads(path.read_text())["curves"]
    (point,) = curve["points"]
    assert (curve["key"], point["x"]) == ("endpoints", 10)
    (sample,) = point["samples"]["slim"]
    assert all(sample["values"][k] > 0 for k in ("first_byte_us", "connections", "requests", "took"))
    assert "## Endpoints in the maps" in done.stdout
    assert bench("report", path, "--dir", tmp_path / "r").returncode == 0
    assert ElementTree.parse(tmp_path / "r" / "endpoints.svg").getroot().tag.endswith("}svg")
    assert bench("compare", path, path).returncode == 2


def test_flood(tmp_path):
    path = tmp_path / "flood.json"
    done = bench("flood", "--json", path, "--kinds", "valid", "--rounds", 1, "--seconds", 1, "--rate", 2000)
    assert done.returncode == 0, done.stderr
    results = json.loads(path.read_text())
    assert [w["key"] for w in results["workloads"]] == ["nginx_1k_valid", "nginx_1k_close_valid"]
    for workload in results["workloads"]:
        for network in "host", "slim":
            (sample,) = workload["samples"][network]
            assert sample["values"]["rate"] > 0 and 0 < sample["values"]["flood"] < 2200
    (cost,) = results["costs"]
    assert cost["key"] == "valid" and all(cost["summary"][n]["packet_us"]["median"] > 0 for n in ("host", "slim"))
    for one in results["memory"]:
        assert one["values"]["maps"]["before"] > 1 << 20 and one["values"]["slimd"]["highest"] > 1 << 20
    for title in ("## nginx, 1 KB, keep-alive", "wrong MAC, to the Slim ports: rate", "## A packet of the flood", "## Memory of Slim", "half-open connections"):
        assert title in done.stdout
    assert bench("report", path, check=True).stdout == done.stdout
    assert bench("report", path, "--dir", tmp_path / "r").returncode == 0
    assert ElementTree.parse(tmp_path / "r" / "flood_nginx_1k.svg").getroot().tag.endswith("}svg")
    assert "\"flood\"" in one_line(bench("compare", path, path))
    del results["memory"][0]["values"]["maps"]
    path.write_text(json.dumps(results))
    done = bench("report", path)
    assert done.returncode == 1 and "missing or wrong" in one_line(done)


def test_what_is_kept_in_a_flood():
    """Of the same round's rate without one; nothing is said where that was not measured."""
    def samples(**rates):
        return {flood.KINDS[k]: {"host": [{"values": {"rate": r}} for r in of]} for k, of in rates.items()}

    def kept(found, kind):
        return [s["values"].get("kept") for s in found[flood.KINDS[kind]]["host"]]

    found = samples(quiet=[100, 200], none=[50, 50])
    flood._add_kept(found)
    assert kept(found, "quiet") == [1, 1] and kept(found, "none") == [0.5, 0.25]
    found = samples(none=[50])
    flood._add_kept(found)
    assert kept(found, "none") == [None]


@pytest.mark.parametrize("script,said", [
    ("echo no such lab >&2; exit 1", "does not start: no such lab"),
    ("echo ready; echo cannot send >&2; exit 1", "ended: cannot send"),
    ("echo ready; trap 'echo {}; exit' TERM; while :; do sleep 0.1; done", "ended: ")])
def test_a_flood_that_fails(tmp_path, monkeypatch, script, said):
    (tmp_path / "lab").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "lab").chmod(0o755)
    monkeypatch.setattr(place, "LAB", str(tmp_path / "lab"))
    bed = types.SimpleNamespace(state=types.SimpleNamespace(id="none"), cpus=(0, 1))
    with pytest.raises(LabError, match=f"the flood {said}"):
        with flood.Flood(bed, flood.KINDS["none"], (1, 1), str(tmp_path), 1, (1, 2)):
            time.sleep(0.3)


def test_a_flood_on_one_cpu(tmp_path):
    done = subprocess.run(["taskset", "-c", str(min(os.sched_getaffinity(0))), str(BENCH), "flood", "--json",
                           tmp_path / "x"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.returncode == 1 and "two CPUs or more" in one_line(done)


def test_profile(tmp_path):
    """A container's system calls pass its filter, and a host's do not."""
    took = subprocess.run(["perf", "record", "-q", "-a", "-e", "cpu-clock", "-o", tmp_path / "perf.data",
                           "sleep", "0.1"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if took.returncode != 0:
        pytest.skip(f"perf takes no samples here: {took.stderr.strip()[-100:]}")
    done = bench("profile", "rr_one_core", "--rounds", "2", "--seconds", "1")
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]]
            for line in done.stdout.splitlines() if line.startswith("|")]
    assert rows[0] == ["function", "host", "slim", "slim - host"]
    assert rows[2][0] == "all" and len(rows) == 3 + 25
    for name, host, slim, _ in rows[2:]:
        assert all(float(n.replace(",", "")) >= 0 for n in (host, slim)), name


@pytest.mark.parametrize("words", [["nonsense"], ["rr,connect"], ["rr", "--networks", "host"]])
def test_profile_of_what(words):
    done = bench("profile", *words)
    assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1


def test_programs():
    """On an open connection a packet costs one look at it when it arrives, and nothing else runs."""
    done = bench("programs")
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]]
            for line in done.stdout.splitlines()[2:]]
    open_connection = [r for r in rows if r[:2] == ["slim", "a round trip on an open connection"]]
    assert [r[2] for r in open_connection] == ["slim_ingress"], done.stdout
    assert 1.9 < float(open_connection[0][3]) < 2.5
    one = {r[2]: float(r[3]) for r in rows if r[0] == "slim" and r[1].startswith("a connection")}
    assert {"slim_connect4", "slim_steer", "slim_sockops", "slim_release"} <= set(one), done.stdout
    # Not for what is none of Slim's: no name is changed, no port is taken.
    other = {r[2] for r in rows if r[0] == "host" and r[1].startswith("a connection")}
    assert other == {"slim_connect4", "slim_ingress", "slim_steer", "slim_sockops"}, done.stdout
