# SPDX-License-Identifier: Apache-2.0
"""
Network policies as a person and the store give them: what slimctl and slimd say, what they refuse,
and what is in the kernel's maps, above all after a slimd that was killed and started again.
"""

import contextlib
import json
import pathlib
import sqlite3
import subprocess

import pytest

from conftest import PATIENCE, wait_until
from test_labels import call, ctl, one_line, running

HEAD = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"


def yaml(name, spec, network=None, annotations=None):
    text = HEAD + f"metadata:\n  name: {name}\n"
    if network:
        text += f"  namespace: {network}\n"
    if annotations:
        text += f"  annotations: {json.dumps(annotations)}\n"
    return text + f"spec: {json.dumps(spec)}\n"


def selects(app):
    return {"podSelector": {"matchLabels": {"app": app}}}


ISOLATED = {**selects("web"), "policyTypes": ["Ingress"]}
FROM_CLIENT = {**selects("web"), "ingress": [
    {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}],
     "ports": [{"port": 80}, {"port": "http"}]},
    {"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}}]},
]}


def apply(lab, text, *options, host="h1"):
    return lab.verb("ctl", host, "--", *options, "policy", "apply", "-f", "-", check=False,
                    stdin=None, input=text)


def applied(lab, text):
    done = apply(lab, text)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.splitlines()


def names(lab, host="h1"):
    return [f"{p['network']}/{p['name']}" for p in lab.ctl(host, "policy", "ls")["policies"]]


@pytest.fixture(autouse=True)
def no_policies_are_left(lab):
    yield
    for name in names(lab):
        network, _, policy = name.partition("/")
        ctl(lab, "policy", "rm", policy, "--network", network)
    assert names(lab) == []


@pytest.fixture(scope="module")
def containers(lab):
    with running(lab, "web", "--label", "app=web", "--port", "http=8080"), \
            running(lab, "client", "--label", "app=client"), \
            running(lab, "far", "--label", "app=client", host="h2"), \
            running(lab, "other", host="h2"):
        yield


# --- maps -----------------------------------------------------------------------------------------

POLICY_MAPS = ("policy_rules", "policy_cidrs", "policy_subjects")


def dump(lab, host, name):
    path = pathlib.Path("/sys/fs/bpf") / f"slim-lab-{lab.id}" / host / "maps" / name
    done = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", str(path)], check=True,
                          stdout=subprocess.PIPE, timeout=PATIENCE)
    return {tuple(int(b, 16) for b in e["key"]): tuple(int(b, 16) for b in e["value"])
            for e in json.loads(done.stdout)}


def policy_maps(lab, host="h1"):
    return {name: dump(lab, host, name) for name in POLICY_MAPS}


def identities(lab, host="h1"):
    """Endpoint id → identity, of both maps, which have to agree."""
    by_id = {int.from_bytes(key, "little"): int.from_bytes(value[-4:], "little")
             for key, value in dump(lab, host, "identities").items()}
    for value in dump(lab, host, "endpoints").values():
        assert int.from_bytes(value[-4:], "little") == by_id[int.from_bytes(value[:4], "little")]
    return by_id


def identity(lab, name, host="h1"):
    return identities(lab, host)[lab.ctl(host, "endpoint", "show", name)["endpoint"]["id"]]


def rules(lab, host="h1"):
    """(subject, peer, direction, protocol, port, bits)"""
    return {(int.from_bytes(k[4:8], "little"), int.from_bytes(k[8:12], "little"), k[12], k[13],
             int.from_bytes(k[14:16], "big"), int.from_bytes(k[:4], "little"))
            for k in dump(lab, host, "policy_rules")}


# --- verbs ----------------------------------------------------------------------------------------


def test_before_the_first_container(lab):
    """The default network is made by its first policy as by its first container: it is closed from the start."""
    assert lab.ctl("h1", "network", "ls")["networks"] == []
    assert applied(lab, yaml("isolated", ISOLATED)) == ["policy default/isolated created"]
    made = lab.ctl("h2", "network", "ls")["networks"]
    assert [(n["name"], n["prefix"], n["block_bits"]) for n in made] == [("default", "10.77.0.0/16", 26)]


def test_apply_ls_show_rm(lab, containers):
    assert applied(lab, yaml("isolated", ISOLATED) + "---\n" + yaml(
        "from-client", FROM_CLIENT, annotations={"slim.io/deny": "reject"})) == [
            "policy default/isolated created", "policy default/from-client created"]
    assert names(lab) == names(lab, "h2") == ["default/from-client", "default/isolated"]
    table = ctl(lab, "policy", "ls").stdout
    assert "NETWORK" in table and "from-client" in table and "reject" in table
    assert names(lab) == [f"{p['network']}/{p['name']}"
                          for p in lab.ctl("h2", "policy", "ls", "--network", "default")["policies"]]

    listed = lab.ctl("h1", "policy", "ls")["policies"]
    assert listed[0] == {"network": "default", "name": "from-client", "types": ["Ingress"],
                         "deny": "reject"}
    shown = lab.ctl("h2", "policy", "show", "from-client")
    assert shown["endpoints"] == 1
    assert shown["policy"]["metadata"]["name"] == "from-client"
    assert shown["policy"]["spec"]["ingress"][0]["ports"][1]["port"] == "http"
    text = ctl(lab, "policy", "show", "from-client").stdout
    assert text.startswith("# endpoints that it selects: 1\n")
    # What it shows is a file again, and the same policy.
    assert applied(lab, text) == ["policy default/from-client unchanged"]

    assert applied(lab, yaml("isolated", {**ISOLATED, "policyTypes": ["Ingress", "Egress"]})
                   + "---\n" + text) == ["policy default/isolated changed",
                                         "policy default/from-client unchanged"]
    done = apply(lab, text, "--json")
    assert json.loads(done.stdout) == {"policies": [
        {"network": "default", "name": "from-client", "result": "unchanged"}]}

    assert lab.ctl("h2", "policy", "rm", "isolated", "from-client") == {}
    assert names(lab) == names(lab, "h2") == []
    assert policy_maps(lab) == {name: {} for name in POLICY_MAPS}


def test_a_file_and_its_refusals_with_their_places(lab, containers, tmp_path):
    path = tmp_path / "policies.yaml"

    def refused(text, *named, place=None):
        path.write_text(text)
        done = ctl(lab, "policy", "apply", "-f", path)
        one_line(done, *named)
        if place:
            assert done.stderr.startswith(f"{path}:{place[0]}:{place[1]}: "), done.stderr
        assert names(lab) == []

    good = yaml("good", ISOLATED)
    refused(good.replace("spec:", "spce:"), "spce", place=(5, 1))
    refused(good.replace("podSelector", "podSelectors"), "podSelectors")
    refused(HEAD + "metadata: {name: x}\nspec:\n  podSelector: []\n", "podSelector", place=(5, 16))
    refused(HEAD + "metadata: {name: x}\nspec:\n  podSelector: {}\n  ingress:\n"
            "  - ports:\n    - port: 70000\n", "65535", place=(8, 13))
    refused(HEAD + "metadata:\n  name: Bad_Name\nspec: {podSelector: {}}\n", "Bad_Name",
            place=(4, 9))
    refused(HEAD + "metadata:\n  name: x\nspec: {podSelector: {}\n", place=(5, 7))
    refused("kind: Pod\n", place=None)
    refused(HEAD + "metadata: &a {name: x}\nspec: {podSelector: {}}\n", place=(3, 11))
    # The second of two is bad: the first is not applied either.
    refused(good + "---\n" + good.replace("good", "bad").replace("matchLabels", "matchLabel"),
            "matchLabel", place=(11, 24))
    refused(good + "---\n" + good, "good")
    refused("", str(path), "no policy")
    refused("# nothing\n---\n", "no policy")
    refused("x" * (4 << 20) + "x", "MiB")
    one_line(ctl(lab, "policy", "apply", "-f", tmp_path / "missing"), "missing", "No such file")
    one_line(ctl(lab, "policy", "apply", "-f", tmp_path), str(tmp_path))
    done = apply(lab, good.replace("spec:", "spce:"))
    assert done.returncode == 1 and done.stderr.startswith("-:5:1: ")

    path.write_text(good)
    assert ctl(lab, "policy", "apply", "--file", path).stdout == "policy default/good created\n"


def test_networks_of_policies(lab, containers):
    done = apply(lab, yaml("good", ISOLATED) + "---\n" + yaml("lost", ISOLATED, "nowhere"))
    one_line(done, '"nowhere"', "lost")
    assert names(lab) == []
    lab.ctl("h1", "network", "create", "blue", "--prefix", "10.90.0.0/16")
    try:
        assert applied(lab, yaml("web", ISOLATED, "blue")) == ["policy blue/web created"]
        assert names(lab, "h2") == ["blue/web"]
        assert lab.ctl("h1", "policy", "ls", "--network", "default")["policies"] == []
        assert lab.ctl("h1", "policy", "show", "web", "--network", "blue")["endpoints"] == 0
        one_line(ctl(lab, "policy", "show", "web"), '"web"', '"default"')
        one_line(ctl(lab, "policy", "rm", "web"), '"web"', '"default"')
        one_line(ctl(lab, "network", "rm", "blue"), '"blue"', "policies")
        assert ctl(lab, "policy", "rm", "web", "--network", "blue").returncode == 0
    finally:
        assert ctl(lab, "network", "rm", "blue").returncode == 0
    one_line(ctl(lab, "policy", "ls", "--network", "blue"), '"blue"')


USAGE = [
    (["policy"], "apply, ls, show, rm, check"),
    (["policy", "paint"], "paint"),
    (["policy", "apply"], "-f"),
    (["policy", "apply", "-f"], "file"),
    (["policy", "apply", "-x", "y"], "-x"),
    (["policy", "apply", "file.yaml"], "file.yaml"),
    (["policy", "ls", "x"], "x"),
    (["policy", "ls", "--network", "Bad"], "Bad"),
    (["policy", "show"], "missing"),
    (["policy", "show", "Bad_Name"], "Bad_Name"),
    (["policy", "show", "a" * 254], "aaa"),
    (["policy", "show", "x", "--network", "-"], "--network"),
    (["policy", "rm"], "missing"),
    (["policy", "rm", "good", "Bad_Name"], "Bad_Name"),
    (["policy", "rm", "x", "--network", "-"], "--network"),
    (["policy", "check"], "who connects"),
    (["policy", "check", "a"], "whom it connects to"),
    (["policy", "check", "a", "b", "0"], '"0"'),
    (["policy", "check", "a", "b", "80/"], '"80/"'),
    (["policy", "check", "a", "b", "65536/tcp"], "65536"),
    (["policy", "check", "a", "b", "80", "c"], '"c"'),
    (["policy", "check", "a", "b", "--network", "-"], "--network"),
]


@pytest.mark.parametrize("words, named", USAGE, ids=lambda v: "-".join(v)[:30])
def test_usage(lab, words, named):
    one_line(ctl(lab, *words), named, status=2)


def test_help(lab):
    for verb in ("apply", "ls", "show", "rm", "check"):
        done = ctl(lab, "policy", verb, "--help")
        assert done.returncode == 0 and done.stdout.startswith(f"usage: slimctl policy {verb}")


def policy(name="p", network="default", spec=None, **more):
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": network},
            "spec": {"podSelector": {}} if spec is None else spec, **more}


@pytest.mark.parametrize("method, parameters, errno, named", [
    ("Policy.Apply", {}, 22, "policies"),
    ("Policy.Apply", {"policies": {}}, 22, "array"),
    ("Policy.Apply", {"policies": [7]}, 22, "policies[0]"),
    ("Policy.Apply", {"policies": [policy(), policy("q", more={})]}, 22, "policies[1]: more"),
    ("Policy.Apply", {"policies": [policy(), policy()]}, 22, "default/p is given twice"),
    ("Policy.Apply", {"policies": [policy(), policy(network="nowhere")]}, 2, "nowhere"),
    ("Policy.Apply", {"policies": [None] * 10001}, 7, "10000"),
    ("Policy.Apply", {"policies": [], "more": 1}, 22, "more"),
    ("Policy.List", {"network": "nowhere"}, 2, "nowhere"),
    ("Policy.List", {"network": "_"}, 22, "_"),
    ("Policy.List", {"name": "x"}, 22, "name"),
    ("Policy.Show", {}, 22, "name"),
    ("Policy.Show", {"name": "p"}, 2, '"p"'),
    ("Policy.Show", {"name": "P"}, 22, '"P"'),
    ("Policy.Show", {"name": "p", "network": "_"}, 22, '"_"'),
    ("Policy.Remove", {"name": "p"}, 2, '"p"'),
    ("Policy.Remove", {"name": "../p"}, 22, "../p"),
    ("Policy.Remove", {"name": "p", "network": "_"}, 22, '"_"'),
    ("Policy.Remove", {}, 22, "name"),
    ("Policy.Check", {"from": "web"}, 22, "to"),
    ("Policy.Check", {"from": "web", "to": "nobody"}, 2, "nobody"),
    ("Policy.Check", {"from": "Nobody", "to": "web"}, 22, "Nobody"),
    ("Policy.Check", {"from": "host:h9", "to": "web"}, 2, "h9"),
    ("Policy.Check", {"from": "web", "to": "client", "network": "nowhere"}, 2, "nowhere"),
    ("Policy.Check", {"from": "web", "to": "client", "network": "_"}, 22, '"_"'),
    ("Policy.Check", {"from": "192.0.2.1", "to": "192.0.2.2"}, 22, "neither"),
    ("Policy.Check", {"from": "web", "to": "2001:db8::1"}, 22, "one family"),
    ("Policy.Check", {"from": "web", "to": "client", "port": 0}, 22, "65535"),
    ("Policy.Check", {"from": "web", "to": "client", "port": 65536}, 22, "65535"),
    ("Policy.Check", {"from": "web", "to": "client", "protocol": "gre"}, 22, "gre"),
    ("Policy.Check", {"from": "web", "to": "client", "protocol": "icmp", "port": 1}, 22, "icmp"),
])
def test_refused_by_slimd(lab, containers, method, parameters, errno, named):
    answer = call(lab, method, parameters)
    assert answer.get("errno") == errno and named in answer["error"], answer
    assert names(lab) == []


# --- check ----------------------------------------------------------------------------------------


def check(lab, *words, host="h1"):
    done = ctl(lab, "--json", "policy", "check", *words, host=host)
    assert done.stderr == "", done.stderr
    answer = json.loads(done.stdout)
    assert done.returncode == (0 if answer["verdict"] == "allowed" else 1)
    assert answer["differs"] is False
    return answer


def test_check(lab, containers):
    web, client = (lab.ctl("h1", "endpoint", "show", n)["endpoint"]["address"]
                   for n in ("web", "client"))
    open_answer = check(lab, "client", "web", "80")
    assert open_answer == {
        "egress": {"verdict": "allowed", "why": "allowed: no policy selects it for egress",
                   "kernel": "allowed"},
        "ingress": {"verdict": "allowed", "why": "allowed: no policy selects it for ingress",
                    "kernel": "allowed"},
        "verdict": "allowed", "differs": False}
    applied(lab, yaml("isolated", ISOLATED) + "---\n" + yaml("from-client", FROM_CLIENT))

    assert check(lab, "client", "web", "80")["ingress"] == {
        "verdict": "allowed", "why": "allowed by default/from-client ingress[0]",
        "kernel": "allowed"}
    for words, verdict in [
            (("client", "web", "80/tcp"), "allowed"), (("client", "web", "80/udp"), "drop"),
            (("client", "web", "8080"), "allowed"), (("client", "web", "81"), "drop"),
            (("far", "web", "80"), "allowed"), (("other", "web", "80"), "drop"),
            (("client", "web"), "drop"), (("client", "web", "icmp"), "drop"),
            (("host:h1", "web", "80"), "drop"), (("host:h2", "web", "80"), "drop"),
            ((client, "web", "80"), "allowed"), ((client, web, "80"), "allowed"),
            (("192.0.2.7", "web", "9"), "allowed"), (("192.0.2.200", "web", "9"), "drop"),
            (("web", "client", "80"), "allowed"), (("web", "192.0.2.200"), "allowed"),
            (("client", "other", "80"), "allowed"), (("web", "host:h2"), "allowed")]:
        assert check(lab, *words)["verdict"] == verdict, words
    # The kernel is asked about what lives there, the policies about all.
    answer = check(lab, "client", "web", "81", host="h2")
    assert answer["ingress"]["kernel"] is answer["egress"]["kernel"] is None
    assert answer["ingress"]["why"] == ("denied (drop): no ingress rule allows it of "
                                        "default/from-client, default/isolated")
    assert check(lab, "192.0.2.7", "web", "9")["egress"] is None

    done = ctl(lab, "policy", "check", "client", "web", "80")
    assert done.returncode == 0 and "allowed by default/from-client ingress[0]" in done.stdout
    done = ctl(lab, "policy", "check", "192.0.2.200", "web", "81")
    assert done.returncode == 1 and done.stderr == ""
    assert "denied (drop)" in done.stdout and "no endpoint" in done.stdout

    applied(lab, yaml("isolated", ISOLATED, annotations={"slim.io/deny": "reject"}))
    assert check(lab, "other", "web", "80")["verdict"] == "reject"
    one_line(ctl(lab, "policy", "check", "client", "nobody"), '"nobody"')


def test_a_kernel_that_differs_is_said(lab, containers):
    applied(lab, yaml("isolated", ISOLATED))
    key = identity(lab, "web").to_bytes(4, "little").hex(" ").split()
    path = f"/sys/fs/bpf/slim-lab-{lab.id}/h1/maps/policy_subjects"
    subprocess.run(["bpftool", "map", "delete", "pinned", path, "key", "hex", *key], check=True)
    done = ctl(lab, "policy", "check", "client", "web", "80")
    assert done.returncode == 1 and "denied (drop)" in done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "THE KERNEL DIFFERS" in done.stderr and '"allowed"' in done.stderr
    log = pathlib.Path(f"/run/slim-lab/{lab.id}/h1/slimd.log").read_text()
    assert "the kernel's verdict on ingress of web" in log
    # A new slimd looks at what is there.
    lab.verb("daemon", "h1", "kill")
    lab.verb("daemon", "h1", "start")
    assert check(lab, "client", "web", "80")["verdict"] == "drop"


# --- maps and labels ------------------------------------------------------------------------------


def test_labels_are_what_counts(lab, containers):
    applied(lab, yaml("from-client", FROM_CLIENT))
    web, client, other = (identity(lab, n) for n in ("web", "client", "other"))
    assert client == identity(lab, "far") != other
    assert (web, client, 0, 6, 80, 96) in rules(lab)
    assert not rules(lab, "h2") and not dump(lab, "h2", "policy_subjects")

    # One that is labelled later is another identity, and is allowed.
    assert ctl(lab, "endpoint", "label", "other", "app=client", host="h2").returncode == 0
    assert check(lab, "other", "web", "80")["verdict"] == "allowed"
    assert identity(lab, "other") == client
    assert ctl(lab, "endpoint", "label", "other", "app-", host="h2").returncode == 0
    assert check(lab, "other", "web", "80")["verdict"] == "drop"
    assert identity(lab, "other") != client

    # A subject that is none any more, and is one again.
    assert ctl(lab, "endpoint", "label", "web", "app=db").returncode == 0
    assert check(lab, "other", "web", "80")["verdict"] == "allowed"
    assert policy_maps(lab) == {name: {} for name in POLICY_MAPS}
    assert ctl(lab, "endpoint", "label", "web", "app=web").returncode == 0
    assert check(lab, "other", "web", "80")["verdict"] == "drop"

    # By the labels of networks.
    applied(lab, yaml("by-network", {**selects("web"), "ingress": [
        {"from": [{"namespaceSelector": {"matchLabels": {"team": "red"}}}]}]}))
    assert check(lab, "other", "web", "80")["verdict"] == "drop"
    assert ctl(lab, "network", "label", "default", "team=red", host="h2").returncode == 0
    assert check(lab, "other", "web", "80")["verdict"] == "allowed"
    assert ctl(lab, "network", "label", "default", "team-").returncode == 0
    assert check(lab, "other", "web", "80")["verdict"] == "drop"


def test_hosts_are_selected_by_their_kind(lab, containers):
    applied(lab, yaml("hosts", {**selects("web"), "ingress": [{"from": [{"podSelector": {
        "matchLabels": {"slim.io/kind": "host", "slim.io/host": "h2"}}}]}]}))
    assert check(lab, "host:h2", "web", "80")["verdict"] == "allowed"
    assert check(lab, "host:h1", "web", "80")["verdict"] == "drop"


def test_a_container_that_comes_and_goes(lab, containers):
    applied(lab, yaml("late", {**selects("late"), "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]}))
    assert policy_maps(lab) == {name: {} for name in POLICY_MAPS}
    with running(lab, "late", "--label", "app=late"):
        assert check(lab, "client", "late", "1")["verdict"] == "allowed"
        assert check(lab, "web", "late", "1")["verdict"] == "drop"
        assert len(dump(lab, "h1", "policy_subjects")) == 1
    wait_until(lambda: policy_maps(lab) == {name: {} for name in POLICY_MAPS}, "its rules to go")


def test_status(lab, containers):
    applied(lab, yaml("isolated", ISOLATED) + "---\n" + yaml("from-client", FROM_CLIENT))
    status = lab.ctl("h1", "status")
    assert status["policies"] == 2 and status["policy_error"] is None
    maps = policy_maps(lab)
    assert {n: status["maps"][n] for n in POLICY_MAPS} == {n: len(maps[n]) for n in POLICY_MAPS}
    assert all(maps.values())
    table = ctl(lab, "status").stdout
    assert "policies" in table and "policy_rules" in table and "not in force" not in table


# --- a new slimd ----------------------------------------------------------------------------------


def restart(lab, host="h1", meanwhile=lambda: None):
    lab.verb("daemon", host, "kill")
    meanwhile()
    lab.verb("daemon", host, "start")


def test_a_new_slimd_changes_nothing(lab, containers):
    applied(lab, "---\n".join([
        yaml("isolated", ISOLATED), yaml("from-client", FROM_CLIENT),
        yaml("out", {**selects("client"), "egress": [
            {"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.78.0.0/16"]}}]}]})]))
    # So that the numbers are not those that a new engine would give.
    for name in ("web", "client"):
        ctl(lab, "endpoint", "label", name, "for=a-while")
        ctl(lab, "endpoint", "label", name, "for-")
    before, ids = policy_maps(lab), identities(lab)
    assert all(before.values()) and all(ids.values()) and len(set(ids.values())) >= 5
    for _ in range(2):
        restart(lab)
        assert policy_maps(lab) == before and identities(lab) == ids
        assert check(lab, "client", "web", "80")["verdict"] == "allowed"
        assert check(lab, "other", "web", "80")["verdict"] == "drop"
    assert names(lab) == ["default/from-client", "default/isolated", "default/out"]


def test_what_changed_meanwhile(lab, containers):
    applied(lab, yaml("isolated", ISOLATED) + "---\n" + yaml("from-client", FROM_CLIENT))
    ids = identities(lab)
    far = lab.ctl("h2", "endpoint", "show", "far")["endpoint"]["id"]

    def meanwhile():
        assert ctl(lab, "policy", "rm", "isolated", host="h2").returncode == 0
        assert ctl(lab, "endpoint", "label", "far", "app=stranger", host="h2").returncode == 0

    try:
        restart(lab, meanwhile=meanwhile)
        assert names(lab) == ["default/from-client"]
        assert check(lab, "client", "web", "80")["verdict"] == "allowed"
        assert check(lab, "far", "web", "80")["verdict"] == "drop"
        # client and far were one identity: neither of them keeps the number.
        now = identities(lab)
        client = lab.ctl("h1", "endpoint", "show", "client")["endpoint"]["id"]
        assert ids[client] == ids[far]
        assert len({ids[client], now[client], now[far]}) == 3
        assert {k: v for k, v in now.items() if k not in (client, far)} == {
            k: v for k, v in ids.items() if k not in (client, far)}
        # And with the last one all is gone.
        restart(lab, meanwhile=lambda: ctl(lab, "policy", "rm", "from-client", host="h2"))
        assert policy_maps(lab) == {name: {} for name in POLICY_MAPS} and names(lab) == []
    finally:
        assert ctl(lab, "endpoint", "label", "far", "app=client", host="h2").returncode == 0


def write(lab, name, key, value):
    path = f"/sys/fs/bpf/slim-lab-{lab.id}/h1/maps/{name}"
    subprocess.run(["bpftool", "map", "update", "pinned", path, "key", "hex",
                    *key.hex(" ").split(), "value", "hex", *value.hex(" ").split()], check=True)


def test_entries_that_nobody_made(lab, containers):
    """What no engine could have written is not taken over, and what it would not want goes."""
    applied(lab, yaml("from-client", FROM_CLIENT))
    before, ids = policy_maps(lab), identities(lab)
    one, big, web = (n.to_bytes(4, "little") for n in (1, 0xffffffff, identity(lab, "web")))
    v4 = bytes(10) + b"\xff\xff"

    def meanwhile():
        write(lab, "policy_subjects", big, one)
        write(lab, "policy_subjects", bytes(4), one)
        write(lab, "policy_subjects", (12345).to_bytes(4, "little"), one)
        # The prefix 10.9.0.0/16 with a number of another, one that is none, and a new one.
        prefix = (112).to_bytes(4, "little") + v4
        taken = next(iter(before["policy_cidrs"].values()))
        write(lab, "policy_cidrs", prefix + bytes([10, 9, 0, 0]), bytes(taken))
        write(lab, "policy_cidrs", prefix + bytes([10, 10, 0, 0]), bytes(4))
        write(lab, "policy_cidrs", prefix + bytes([10, 11, 0, 0]), (4321).to_bytes(4, "little"))
        for peer in (0x80000000 | 77777, 0x80000000 | 4321, 0x7fffffff, 999):
            write(lab, "policy_rules", (72).to_bytes(4, "little") + web
                  + peer.to_bytes(4, "little") + bytes(4), one)

    restart(lab, meanwhile=meanwhile)
    # Two prefixes had one number: which of them was it? Rules are as they should be in any case.
    after = policy_maps(lab)
    assert identities(lab) == ids
    assert {n: len(after[n]) for n in POLICY_MAPS} == {n: len(before[n]) for n in POLICY_MAPS}
    assert after["policy_subjects"] == before["policy_subjects"]
    assert set(after["policy_cidrs"]) == set(before["policy_cidrs"])
    for words, verdict in [(("client", "web", "80"), "allowed"), (("other", "web", "80"), "drop"),
                           (("192.0.2.7", "web", "9"), "allowed"),
                           (("192.0.2.200", "web", "9"), "drop"), (("10.9.0.1", "web"), "drop"),
                           (("10.11.0.1", "web"), "drop")]:
        assert check(lab, *words)["verdict"] == verdict, words


def test_without_a_store(lab, containers):
    applied(lab, yaml("from-client", FROM_CLIENT))
    store = pathlib.Path(f"/run/slim-lab/{lab.id}/store")
    away = store.with_suffix(".away")
    store.rename(away)
    try:
        one_line(apply(lab, yaml("isolated", ISOLATED)), "cannot write the policies")
        one_line(ctl(lab, "policy", "rm", "from-client"), "from-client", "cannot remove")
        one_line(ctl(lab, "endpoint", "label", "web", "app=db"), "cannot label", '"web"')
        one_line(ctl(lab, "network", "label", "default", "a=b"), "cannot label", '"default"')
        # What is in force stays in force, and is shown.
        assert names(lab) == ["default/from-client"]
        assert check(lab, "other", "web", "80")["verdict"] == "drop"
    finally:
        away.rename(store)
    wait_until(lambda: lab.ctl("h1", "status")["store_error"] is None, "the store to answer")
    assert names(lab) == ["default/from-client"]
    assert check(lab, "client", "web", "80")["verdict"] == "allowed"


def put(lab, entries):
    """Straight into the store, on no lease; None deletes."""
    with contextlib.closing(sqlite3.connect(f"/run/slim-lab/{lab.id}/store", timeout=PATIENCE,
                                            isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE state SET revision = revision + 1")
        revision, = db.execute("SELECT revision FROM state").fetchone()
        db.executemany("INSERT INTO entry VALUES (?, ?, ?, 0) ON CONFLICT (key) DO UPDATE SET "
                       "value = excluded.value, revision = excluded.revision",
                       [(k, v if v is None or isinstance(v, str) else json.dumps(v), revision)
                        for k, v in entries.items()])
        db.execute("COMMIT")


@pytest.mark.parametrize("value, named", [
    ("{", "not JSON"), ("[]", "object"), (policy("other"), "it is of default/other"),
    (policy("bad", "blue"), "it is of blue/bad"),
    (policy("bad", spec={"podSelector": {}, "more": 1}), "spec.more"),
], ids=["no-json", "no-object", "name", "network", "field"])
def test_values_that_cannot_be_used(lab, containers, value, named):
    log = pathlib.Path(f"/run/slim-lab/{lab.id}/h1/slimd.log")

    def said(before):
        lab.ctl("h1", "policy", "ls")
        return [line for line in log.read_text()[before:].splitlines()
                if "policies/default/bad" in line]

    key = "slim/policies/default/bad"
    size = len(log.read_text())
    put(lab, {key: value})
    try:
        lines = said(size)
        assert len(lines) == 1 and named in lines[0] and "ignoring" in lines[0]
        assert names(lab) == []
        # The policy that is in force stays, whatever comes after it.
        put(lab, {key: policy("bad", spec=ISOLATED)})
        assert check(lab, "client", "web", "80")["verdict"] == "drop"
        size = len(log.read_text())
        put(lab, {key: value})
        lines = said(size)
        assert len(lines) == 1 and "stays as it was" in lines[0]
        assert names(lab) == ["default/bad"]
        assert check(lab, "client", "web", "80")["verdict"] == "drop"
    finally:
        put(lab, {key: None})
    assert names(lab) == []


@pytest.mark.parametrize("key", ["default", "default/", "/x", "De_fault/x", "default/X_"])
def test_keys_that_are_none(lab, key):
    log = pathlib.Path(f"/run/slim-lab/{lab.id}/h1/slimd.log")
    size = len(log.read_text())
    put(lab, {f"slim/policies/{key}": policy("x")})
    try:
        assert names(lab) == []
        lines = [line for line in log.read_text()[size:].splitlines() if "cannot be used" in line]
        assert len(lines) == 1 and f"slim/policies/{key} " in lines[0]
    finally:
        put(lab, {f"slim/policies/{key}": None})


def test_a_thousand_policies_and_many_endpoints(lab, containers):
    fakes = {}
    network = lab.ctl("h1", "network", "ls")["networks"][0]["id"]
    for i in range(2000):
        fakes[f"slim/endpoints/{1000000 + i}"] = {
            "name": f"fake{i}", "network": "default", "network_id": network,
            "address": f"10.77.{200 + i // 250}.{1 + i % 250}", "host": "h9",
            "host_address": "192.0.2.9", "kind": "slim",
            "labels": {"app": f"fake{i % 300}", "tier": str(i % 7)}}
    policies = {f"slim/policies/default/p{i}": policy(f"p{i}", spec={
        **selects("web" if i % 10 == 0 else f"fake{i % 300}"),
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"tier": str(i % 7)}}}],
                     "ports": [{"port": 1000 + i}]}]}) for i in range(1000)}
    try:
        put(lab, {**fakes, **policies})
        assert len(names(lab)) == 1000
        assert check(lab, "fake0", "web", "1000")["verdict"] == "allowed"
        assert check(lab, "fake1", "web", "1000")["verdict"] == "drop"
        assert check(lab, "fake1", "web", "1050")["verdict"] == "allowed"
        before, ids = policy_maps(lab), identities(lab)
        assert len(before["policy_rules"]) >= 1000 and len(ids) >= 2000
        restart(lab)
        assert len(names(lab)) == 1000
        assert policy_maps(lab) == before and identities(lab) == ids
    finally:
        put(lab, {k: None for k in {**fakes, **policies}})
    assert names(lab) == []
    wait_until(lambda: policy_maps(lab) == {name: {} for name in POLICY_MAPS}, "the rules to go")


def test_many_in_one_file(lab, containers):
    text = "---\n".join(yaml(f"p{i}", {**selects("web"), "ingress": [
        {"ports": [{"port": 1000 + i}]}]}) for i in range(300))
    assert applied(lab, text) == [f"policy default/p{i} created" for i in range(300)]
    assert check(lab, "other", "web", "1299")["verdict"] == "allowed"
    assert check(lab, "other", "web", "1300")["verdict"] == "drop"
    assert len(rules(lab)) == 300
    assert ctl(lab, "policy", "rm", *[f"p{i}" for i in range(256)]).returncode == 0
    one_line(ctl(lab, "policy", "rm", *[f"p{i}" for i in range(257)]), "p256", status=2)
    one_line(ctl(lab, "policy", "rm", "p0", "p299"), '"p0"')
    assert len(names(lab)) == 43


# The last: the map stays as it is, and takes nothing any more.


def test_a_map_that_takes_nothing(lab, containers):
    path = f"/sys/fs/bpf/slim-lab-{lab.id}/h1/maps/policy_rules"
    applied(lab, yaml("from-client", FROM_CLIENT))
    subprocess.run(["bpftool", "map", "freeze", "pinned", path], check=True)
    before = policy_maps(lab)
    applied(lab, yaml("from-client", {**FROM_CLIENT, "ingress": [{"ports": [{"port": 7}]}]}))
    # What was in force stays in force, and it is said once, and shown.
    assert policy_maps(lab) == before
    status = lab.ctl("h1", "status")
    assert status["policy_error"] == "Operation not permitted" and status["policies"] == 1
    assert "not in force" in ctl(lab, "status").stdout
    log = pathlib.Path(f"/run/slim-lab/{lab.id}/h1/slimd.log").read_text()
    assert log.count("cannot write the policies") == 1
    # Nobody is let in whose policies are not in the kernel.
    one_line(ctl(lab, "run", "--name", "new", "--", "true"), "new", "Operation not permitted")
    assert "new" not in [e["name"] for e in lab.ctl("h1", "endpoint", "ls")["endpoints"]]
    # Not even a new slimd ends what runs, or changes what is in force.
    ids = identities(lab)
    restart(lab)
    assert lab.ctl("h1", "status")["policy_error"] == "Operation not permitted"
    assert policy_maps(lab) == before and identities(lab) == ids
    assert lab.ctl("h1", "endpoint", "show", "web")["endpoint"]["pids"] > 0
    one_line(ctl(lab, "run", "--name", "new", "--", "true"), "new", "Operation not permitted")
    # As it was: all is well again.
    applied(lab, yaml("from-client", FROM_CLIENT))
    assert lab.ctl("h1", "status")["policy_error"] is None
    assert policy_maps(lab) == before
    assert ctl(lab, "run", "--name", "new", "--", "true").returncode == 0
