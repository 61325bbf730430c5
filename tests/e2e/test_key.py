# SPDX-License-Identifier: Apache-2.0
"""
The cluster key and its rotation: nobody notices it, and no host is left behind.
"""

import json
import sqlite3

import pytest

from conftest import wait_until
from remote import Moved, Remote

# One connection after another, each from socket() to an echoed byte, until it is told to end.
CLIENT = """
made, failed, go = 0, [], True
def run(address):
    global made
    while go:
        try:
            s = socket.socket()
            s.settimeout(0.7)  # less than it takes until a lost SYN is sent again
            s.connect((address, 80))
            s.sendall(b'x')
            assert s.recv(1) == b'x'
            made += 1
        except Exception as e:
            failed.append(repr(e))
        s.close()
"""

SERVER = """
def run():
    l = listen('0.0.0.0', 80, backlog=1000)
    l.settimeout(None)
    while True:
        c, _ = l.accept()
        try:
            c.sendall(c.recv(1))
        except OSError:
            pass
        c.close()
threading.Thread(target=run, daemon=True).start()
"""


def key(lab, host="h1"):
    return lab.ctl(host, "key", "show")["key"]


def rotate(lab, host="h1", *options, check=True):
    return lab.verb("ctl", host, "--", "--json", "key", "rotate", *options, check=check)


def text_of(lab):
    """What the store has, which no command tells."""
    with sqlite3.connect(f"/run/slim-lab/{lab.id}/store") as db:
        [[value]] = db.execute("select value from entry where key = 'slim/key'").fetchall()
    return json.loads(value)


def test_rotation_under_load(lab):
    with Remote.slim(lab, "h2", "server") as server, Remote.slim(lab, "h1", "far") as far, \
            Remote.slim(lab, "h2", "near") as near:
        server.do(SERVER)
        before = key(lab)
        moved = Moved(lab, "h2")
        for client in (far, near):
            client.do(CLIENT)
            client.do(f"threading.Thread(target=run, args=('{lab.ip('server')}',), daemon=True).start()")
        for i in range(6):
            done = json.loads(rotate(lab, ("h1", "h2")[i % 2]).stdout)["key"]
            assert done == {"epoch": before["epoch"] + i + 1, "rotating": False, "waiting": []}
            for host in ("h1", "h2"):
                assert key(lab, host) == done
            for client in (far, near):
                n = client("made")
                wait_until(lambda c=client, n=n: c("made") > n + 20 or c("failed"), "connections")
        for client in (far, near):
            client.do("go = False")
            assert client("failed") == []
        wrong = moved("syn_bad_mac", "syn_no_option", "syn_bad_option")
        assert set(wrong.values()) == {0}


def test_keys_are_new(lab):
    seen = set()
    for _ in range(3):
        rotate(lab)
        seen.add(text_of(lab)["key"])
    assert len(seen) == 3
    assert "next" not in text_of(lab)


def test_a_host_that_does_not_answer(lab):
    """It holds the next key up, the one in force stays so, and no second rotation begins."""
    before = text_of(lab)
    with Remote.slim(lab, "h1", "one") as one, Remote.slim(lab, "h2", "two") as two:
        two.do(SERVER)
        lab.verb("daemon", "h2", "kill")
        try:
            done = rotate(lab, "h1", "--timeout", "1", check=False)
            assert done.returncode == 1 and done.stderr == \
                "slimctl: the next key is handed out, but not in force yet: it waits for h2\n"
            assert key(lab) == {"epoch": before["epoch"], "rotating": True, "waiting": ["h2"]}
            assert text_of(lab)["key"] == before["key"]
            said = lab.verb("ctl", "h1", "--", "key", "show").stdout
            assert said == (f"epoch {before['epoch']}\n"
                            "a next one is being handed out; it waits for: h2\n")
            again = rotate(lab, "h1", check=False)
            assert again.returncode == 1 and "a rotation is under way" in again.stderr
            assert len(again.stderr.splitlines()) == 1
            one.do(f"s = connect('{lab.ip('two')}', 80); s.sendall(b'x')")
            assert one("s.recv(1)") == b"x"
        finally:
            lab.verb("daemon", "h2", "start")
        wait_until(lambda: key(lab)["epoch"] == before["epoch"] + 1, "the rotation's end")
        assert key(lab) == key(lab, "h2") == {"epoch": before["epoch"] + 1, "rotating": False,
                                              "waiting": []}
        one.do(f"s = connect('{lab.ip('two')}', 80); s.sendall(b'x')")
        assert one("s.recv(1)") == b"x"


@pytest.mark.parametrize("words", [["--timeout", "x"], ["--timeout", "-1"], ["more"]])
def test_wrong_words(lab, words):
    done = lab.verb("ctl", "h1", "--", "key", "rotate", *words, check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
