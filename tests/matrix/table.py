# SPDX-License-Identifier: Apache-2.0
"""
The results side by side: what differs, whether that is listed, and docs/sockets.md.

differences.txt has one difference a paragraph:

    kinds: title of a case, or several, with * for anything, one a line; " [path, …]" for some paths
    = reason

where kinds says which environments differ from native: slim, baseline, or both of them.
"""

import fnmatch
import os
import pathlib
import re

HERE = pathlib.Path(__file__).resolve().parent

INTRODUCTION = """# Every socket call, native, baseline and Slim

Made by `tests/matrix/matrix.py --write` (`ninja -C build matrix`), on Linux {kernel}. Each case is run by the same
program between two hosts (native), between two containers of an ordinary overlay of bridge, VXLAN and veth (baseline, see
[lab.md](lab.md)) and between two Slim containers: across hosts ("remote"), and within one container by its own address
("own") and by 127.0.0.1 ("loopback"); a 6 at the end means that it was by IPv6. A case without one of these words has one result in all
of them that it was run in. The baseline has no IPv6 but that of its loopback.

Addresses are written as who they are (server, client, own, absent: of nobody), the case's own ports as P, P2, P3,
and any other port as a, b, … in the order in which the case meets them; "ok" is a call that returned 0, "hangs" one that had not
returned after some seconds. "=" in the table: as native.

{summary}

## What differs

{differences}
"""


class Differences:
    """What is known to differ."""

    def __init__(self, entries):
        self.entries = entries  # (kinds, [pattern], reason)

    @classmethod
    def read(cls, path=HERE / "differences.txt"):
        return cls.parse(path.read_text() if path.exists() else "")

    @classmethod
    def parse(cls, text):
        entries, kinds, patterns, reason = [], None, [], []
        for line in [*text.splitlines(), ""]:
            if line.startswith("#"):
                continue
            if not line.strip():
                if kinds:
                    entries.append((kinds, patterns, " ".join(reason)))
                kinds, patterns, reason = None, [], []
            elif reason or line.startswith("= "):
                reason.append(line.removeprefix("= ").strip())
            elif kinds is None:
                left, _, first = line.partition(": ")
                kinds = frozenset(re.split(r"[, ]+", left))
                patterns.append(first.strip())
            else:
                patterns.append(line.strip())
        return cls(entries)

    def of(self, title, path):
        """The entries that speak of a case, as (index, pattern)."""
        return [(i, p) for i, (_, patterns, _) in enumerate(self.entries) for p in patterns
                if matches(p, title, path)]


def matches(pattern, title, path):
    wanted = re.fullmatch(r"(.*) \[((?:(?:remote|own|loopback)6?(?:, )?)+)\]", pattern)
    if wanted:
        if path not in wanted[2].split(", "):
            return False
        pattern = wanted[1]
    # Titles have brackets of their own: only * is special.
    return fnmatch.fnmatchcase(title, re.sub(r"([\[?])", r"[\1]", pattern))


NOT_RUN = "–"  # the baseline has IPv4 only


class Row:
    """paths: those that have these results. of: how many the case was run in."""

    def __init__(self, case, paths, of, results):
        self.case = case
        self.paths = paths
        self.of = of
        self.results = results

    @property
    def title(self):
        whole = len(self.paths) == self.of
        return self.case.title if whole else f"{self.case.title} [{', '.join(self.paths)}]"

    def differing(self):
        return frozenset(k for k in ("baseline", "slim")
                         if self.results[k] not in (self.results["native"], NOT_RUN))


def escape(text):
    return text.replace("\\", "\\\\").replace("|", "\\|")


class Table:
    def __init__(self, cases, results, differences):
        self.cases = cases
        self.results = results
        self.differences = differences
        self.kernel = os.uname().release
        self.rows = list(self._rows())

    def _rows(self):
        for case in self.cases:
            rows = []
            run = [path for path in case.paths if (case.number, path) in self.results]
            for path in run:
                found = self.results[case.number, path]
                same = [r for r in rows if all(
                    r.results[k] == v or NOT_RUN in (r.results[k], v) for k, v in found.items())]
                if same:
                    same[0].paths.append(path)
                    if same[0].results["baseline"] == NOT_RUN:
                        same[0].results["baseline"] = found["baseline"]
                else:
                    rows.append(Row(case, [path], len(run), dict(found)))
            yield from rows

    def complaints(self, whole=True):
        """Differences that are not listed, and listed ones that are none. whole: all cases were run."""
        said, used = [], set()
        for row in self.rows:
            differing = row.differing()
            for path in row.paths:
                broken = [v for v in row.results.values() if "cannot go on" in v]
                if broken:
                    said.append(f"{row.case.title} [{path}]: {broken[0]}")
                    continue
                entries = self.differences.of(row.case.title, path)
                listed = frozenset().union(*(self.differences.entries[i][0] for i, _ in entries))
                used.update(entries)
                if differing - listed:
                    said.append(f"{row.case.title} [{path}] differs:\n"
                                + "\n".join(f"    {k}: {v}" for k, v in row.results.items()))
                for kind in sorted(listed - differing):
                    said.append(f"{row.case.title} [{path}]: differences.txt says that {kind} differs; "
                                "it does not")
        if whole:
            for i, (_, patterns, _) in enumerate(self.differences.entries):
                said += [f"differences.txt: no case is called {p}" for p in patterns
                         if (i, p) not in used]
        return said

    def notes(self, row):
        found = sorted({i for path in row.paths for i, _ in self.differences.of(row.case.title, path)})
        return ", ".join(f"[{i + 1}](#what-differs)" for i in found)

    def summary(self):
        differ = [r for r in self.rows if "slim" in r.differing()]
        return (f"{len(self.cases)} cases, {len(self.results)} runs in each environment; "
                f"{len({(r.case.number) for r in differ})} cases have a result in Slim that is not the "
                f"native one.")

    def document(self):
        lines = []
        group = None
        for row in self.rows:
            if row.case.group != group:
                group = row.case.group
                lines += ["", f"## {group}", "", "| case | native | baseline | Slim | note |",
                          "|---|---|---|---|---|"]
            lines.append(self.line(row))
        reasons = "\n".join(f"{i + 1}. {reason}" for i, (_, _, reason) in
                            enumerate(self.differences.entries)) or "Nothing."
        return INTRODUCTION.format(kernel=self.kernel, summary=self.summary(),
                                   differences=reasons) + "\n".join(lines) + "\n"

    def line(self, row):
        native = row.results["native"]
        other = ["=" if row.results[k] == native else escape(row.results[k])
                 for k in ("baseline", "slim")]
        return f"| {escape(row.title)} | {escape(native)} | {other[0]} | {other[1]} | {self.notes(row)} |"

    def stale(self, text):
        """
        Where docs/sockets.md says something else. On another kernel than the document's, native
        results may be others: a row has then to be there under its name, and what differs has to
        be the same in the rows that are natively the same.
        """
        mine = self.document()
        if text == mine:
            return []
        if f"on Linux {self.kernel}." in text:
            old, new = text.splitlines(), mine.splitlines()
            fresh = [line for line in new if line not in old][:5]
            gone = [line for line in old if line not in new][:5]
            return ["docs/sockets.md is out of date: ninja -C build matrix\n"
                    + "\n".join([f"  - {line}" for line in gone] + [f"  + {line}" for line in fresh])]
        said = []
        known = {cells[0]: cells for cells in map(split_cells, text.splitlines()) if cells}
        for row in self.rows:
            cells = split_cells(self.line(row))
            there = known.get(cells[0])
            if there is None and len(row.paths) == row.of \
                    and not any(title.startswith(cells[0] + " [") for title in known):
                said.append(f"docs/sockets.md lacks {row.title}: ninja -C build matrix")
            if there and there[1] == cells[1] and there[2:] != cells[2:]:
                said.append(f"docs/sockets.md is out of date in {row.title}: ninja -C build matrix")
        return said


def split_cells(line):
    """The cells of a row of the table; None for other lines."""
    if not line.startswith("| ") or line.startswith("| case "):
        return None
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
