# SPDX-License-Identifier: Apache-2.0
"""
Every socket call and option on hosts, in baseline containers and in Slim containers: nothing differs
but what tests/matrix/differences.txt lists, and docs/sockets.md says what was found.
"""

import os
import pathlib
import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "matrix"))

import matrix  # noqa: E402
from table import Differences, Table, matches  # noqa: E402

PROGRAMS = pathlib.Path(os.environ.get("SLIM_BUILD") or ROOT / "build") / "tests" / "matrix"


@pytest.fixture(scope="module")
def table():
    with matrix.own_lab() as lab:
        return matrix.measure(lab, PROGRAMS)


def test_no_difference_that_is_not_listed(table):
    print(table.summary())
    assert len(table.cases) > 800
    assert table.complaints() == []


def test_the_document_says_what_was_found(table):
    assert table.stale(matrix.DOCUMENT.read_text()) == []


# --- the comparison itself ---------------------------------------------------------------------------


class Case:
    def __init__(self, number, title, paths=("remote", "own")):
        self.number, self.title, self.paths, self.group = number, title, paths, "group"


def compared(listed, **results):
    """A table of one case in one path; results: what each environment says."""
    case = Case(0, "connect(a | b)", ("own",))
    found = {"native": "ok", "baseline": "ok", "slim": "ok", **results}
    return Table([case], {(0, "own"): found}, Differences.parse(listed))


LISTED = "slim: connect(a | b)\n= why\n  it is so\n"


def test_a_difference_is_found_and_has_to_be_listed():
    assert compared("").complaints() == []
    said, = compared("", slim="EPERM").complaints()
    assert "connect(a | b) [own] differs" in said and "slim: EPERM" in said
    assert compared(LISTED, slim="EPERM").complaints() == []
    assert len(compared(LISTED, slim="EPERM", baseline="EIO").complaints()) == 1
    assert len(compared(LISTED.replace("slim", "baseline"), slim="EPERM").complaints()) == 2


def test_a_listed_difference_has_to_occur():
    said, = compared(LISTED).complaints()
    assert "it does not" in said
    assert len(compared("slim: connect(*) [remote]\n= why\n").complaints()) == 1
    assert len(compared("slim: another\n= why\n").complaints()) == 1


def test_a_case_that_breaks_is_a_complaint():
    same = dict.fromkeys(("native", "baseline", "slim"), "cannot go on: no")
    assert len(compared("", **same).complaints()) == 1


def test_patterns():
    assert matches("a [b] *", "a [b] c", "own")
    assert not matches("a [b] *", "a b c", "own")
    assert matches("a [own]", "a", "own")
    assert not matches("a [own]", "a", "loopback")
    assert matches("a [own, own6]", "a", "own6")
    assert not matches("a [own, own6]", "a", "remote6")


def test_rows_join_paths_that_agree():
    case = Case(0, "t")
    same = {"native": "1", "baseline": "1", "slim": "1"}
    other = dict(same, slim="2")
    one = Table([case], {(0, "remote"): same, (0, "own"): dict(same)}, Differences.parse(""))
    assert [r.title for r in one.rows] == ["t"]
    two = Table([case], {(0, "remote"): same, (0, "own"): other}, Differences.parse(""))
    assert [r.title for r in two.rows] == ["t [remote]", "t [own]"]


def test_a_document_of_another_result_is_stale():
    mine = compared(LISTED, slim="EPERM")
    text = mine.document()
    assert "| connect(a \\| b) | ok | = | EPERM | [1](#what-differs) |" in text
    assert "1. why it is so" in text
    assert mine.stale(text) == []
    assert mine.stale(text.replace("EPERM", "EIO")) != []
    assert mine.stale("") != []


def test_on_another_kernel_only_what_is_slims_counts():
    mine = compared(LISTED, slim="EPERM")
    text = mine.document().replace(f"on Linux {mine.kernel}.", "on Linux 2.6.")
    assert mine.stale(text) == []
    assert mine.stale(text.replace("| ok | =", "| EINVAL | =")) == []
    assert mine.stale(text.replace("EPERM", "EIO")) != []
    assert mine.stale(text.replace("connect(a", "bind(a")) != []
