# SPDX-License-Identifier: Apache-2.0
"""Results as Markdown, and as charts: for each group one of what was measured and one of the processors."""

import os
import statistics

from slimlab.system import LabError

from . import charts
from .results import MEMORY, YARDSTICKS

GROUP_TITLES = {"iperf3": "iperf3", "latency": "Request-response", "connections": "Connections",
                "memcached": "memcached", "nginx": "nginx", "postgresql": "PostgreSQL",
                "redis": "redis", "log": "Log broker",
                "flood_nginx_1k": "nginx, 1 KB, keep-alive",
                "flood_nginx_1k_close": "nginx, 1 KB, connection per request"}


def _table(rows, right_from):
    """Markdown; the columns from right_from on are numbers."""
    rule = ["---" if k < right_from else "---:" for k in range(len(rows[0]))]
    return ["| " + " | ".join(row) + " |" for row in [rows[0], rule] + rows[1:]]


def _cell(found, digits):
    half = (found["high"] - found["low"]) / 2
    spread = f" ± {half / found['median'] * 100:.0f} %" if found["median"] else ""
    return f"{found['median']:,.{digits}f}{spread}"


def _arrow(metric):
    return "↑" if metric["better"] == "higher" else "↓"


def _keys(results):
    return [n["key"] for n in results["networks"]]


def _ours(results):
    return [n["key"] for n in results["networks"] if n["ours"]]


def _groups(results):
    found = {}
    for workload in results["workloads"]:
        found.setdefault(workload["group"], []).append(workload)
    return found


def _values(results, group):
    networks = _keys(results)
    pairs = [(n, other) for n in _ours(results) for other in YARDSTICKS if other in networks]
    rows = [["", "", "unit"] + networks + [f"{n} / {other}" for n, other in pairs]]
    for workload in group:
        for metric in workload["metrics"]:
            row = [f"{workload['title']}: {metric['title']}", _arrow(metric), metric["unit"]]
            row += [_cell(workload["summary"][n][metric["key"]], metric["digits"]) for n in networks]
            for n, other in pairs:
                ratio = workload["ratios"][n][metric["key"]].get(other)
                row.append("" if ratio is None else f"{ratio:.2f}")
            rows.append(row)
    return _table(rows, 3)


def _used(samples, side, part):
    """The median of how many cores a part took."""
    return statistics.median(s["cpu"][side][part] / s["cpu"]["wall"] for s in samples)


def _soft(samples, core=None):
    return statistics.median(sum(c["softirq"] for k, c in s["cpu"]["cores"].items()
                                 if core is None or k == str(core)) / s["cpu"]["wall"]
                             for s in samples)


def _processors(results, group):
    cores = results["cpus"]
    rows = [["", "network", "server user", "system", "broker", "client user", "system", "broker",
             f"soft, CPU {cores['server']}", f"soft, CPU {cores['client']}"]]
    for workload in group:
        for n in _keys(results):
            some = workload["samples"][n]
            row = [workload["title"], n]
            row += [f"{_used(some, side, part):.2f}" for side in ("server", "client")
                    for part in ("user", "system", "broker")]
            rows.append(row + [f"{_soft(some, cores['server']):.2f}",
                               f"{_soft(some, cores['client']):.2f}"])
    return _table(rows, 2)


def _others(results):
    found = [s["cpu"]["others"] / s["cpu"]["wall"] for w in results["workloads"]
             for samples in w["samples"].values() for s in samples]
    return f"{statistics.median(found):.1f} cores busy in the median, {max(found):.1f} at most."


def _machine(results):
    m = results["machine"]
    commit = results["commit"] or "no commit"
    return ["# Benchmark", "",
            f"{m['cpu']}, {m['cpus']} CPUs{' of a virtual machine' if m['virtual'] else ''}, "
            f"Linux {m['kernel']}. Commit {commit[:12]}{' with changes' if results['changed'] else ''}, "
            f"{results['when']}.", ""]


def _head(results):
    where = "within one host" if results["within"] else "between two hosts"
    return _machine(results) + [
            f"Medians of {results['rounds']} interleaved rounds of {results['seconds']} s {where}; ± is "
            f"half of what lies between the lowest and the highest round. A ratio is the median of the "
            f"rounds' own ratios. Servers on CPU {results['cpus']['server']}, clients on CPU "
            f"{results['cpus']['client']}. ↑: higher is better, ↓: lower is better. Meanwhile something "
            f"else kept {_others(results)}"]


def _scale_head(results):
    return _machine(results) + [f"Medians of {results['rounds']} interleaved rounds, between two hosts. "
                                "↑: higher is better, ↓: lower is better."]


def _flood_head(results):
    return _head(results) + ["", f"The flood is {results['flood_rate']:,} packets/s from another machine of "
                                 "the underlay; the host has no Slim."]


def _costs(results):
    rows = [["a packet sent and dealt with on one core, µs", "host", "slim", "slim / host"]]
    for one in results["costs"]:
        (metric,) = one["metrics"]
        cells = [_cell(one["summary"][n][metric["key"]], metric["digits"]) for n in ("host", "slim")]
        rows.append([one["title"], *cells, f"{one['ratios']['slim'][metric['key']]['host']:.2f}"])
    return _table(rows, 1)


def _amount(number, unit):
    return f"{number / 1e6:,.2f} MB" if unit == "bytes" else f"{number:,}"


def _flood_memory(results):
    """A row for each flood and thing: before, at most, after."""
    rows = [["flood", "", "before", "at most", "after"]]
    for one in results["memory"]:
        for key, (title, unit) in MEMORY.items():
            value = one["values"][key]
            rows.append([one["title"], title] + [_amount(value[k], unit)
                                                 for k in ("before", "highest", "after")])
    return _table(rows, 2)


def _points(curve):
    """A table with a row for each figure and network, and a column for each point."""
    rows = [["", "", "unit", "network"] + [f"{p['x']:,}" for p in curve["points"]]]
    for metric in curve["points"][0]["metrics"]:
        for network in curve["points"][0]["samples"]:
            cells = [p["summary"][network].get(metric["key"]) for p in curve["points"]]
            if any(cells):
                rows.append([metric["title"], _arrow(metric), metric["unit"], network]
                            + [_cell(c, metric["digits"]) if c else "" for c in cells])
    return _table(rows, 4)


def _scale_markdown(results, charts_dir):
    lines = _scale_head(results)
    for curve in results["curves"]:
        lines += ["", f"## {curve['title']}", ""]
        if charts_dir is not None:
            lines += [f"![{curve['key']}]({charts_dir}{curve['key']}.svg)", ""]
        lines += _points(curve)
    return "\n".join(lines) + "\n"


def markdown(results, charts_dir=None):
    """charts_dir: where the charts are, for links to them."""
    if results["kind"] == "scale":
        return _scale_markdown(results, charts_dir)
    lines = _flood_head(results) if results["kind"] == "flood" else _head(results)
    for name, group in _groups(results).items():
        lines += ["", f"## {GROUP_TITLES.get(name, name)}", ""]
        if charts_dir is not None:
            lines += [f"![{name}]({charts_dir}{name}.svg)", "",
                      f"![{name}, processors]({charts_dir}{name}-cpu.svg)", ""]
        lines += _values(results, group)
        lines += ["", "Processors, in cores that were busy with it:", ""]
        lines += _processors(results, group)
    if results["kind"] == "flood":
        lines += ["", "## A packet of the flood", "",
                  "The processor time of its sender, the wire and its target.", ""]
        lines += _costs(results)
        lines += ["", "## Memory of Slim", "", "With a connection per request, on the server's host.", ""]
        lines += _flood_memory(results)
    return "\n".join(lines) + "\n"


# --- charts ---------------------------------------------------------------------------------------


def _short(value, digits):
    if value >= 1e6:
        return f"{value / 1e6:.2f}M"
    return f"{value / 1e3:.1f}k" if value >= 1e4 else f"{value:.{digits}f}"


def _panels(results, group):
    for workload in group:
        shown = [m for m in workload["metrics"] if m["judged"]][:1]
        if workload["rate"]:  # what it is about
            shown += [m for m in workload["metrics"] if m["key"] == "server_cpu"]
        for metric in shown:
            bars = []
            for n in _keys(results):
                found = workload["summary"][n][metric["key"]]
                bars.append(charts.Bar(n, (found["median"],), found["low"], found["high"],
                                       _short(found["median"], min(metric["digits"], 1))))
            yield charts.Panel(workload["title"], f"{metric['title']}, {metric['unit']} "
                                                  f"({metric['better']} is better)", tuple(bars))


def _processor_panels(results, group):
    for workload in group:
        bars = []
        for n in _keys(results):
            some = workload["samples"][n]
            for side in ("server", "client"):
                parts = tuple(_used(some, side, part) for part in ("user", "system", "broker"))
                bars.append(charts.Bar(n, parts, caption=side[0].upper(), label=f"{sum(parts):.2f}"))
            bars.append(charts.Bar(n, (_soft(some),), caption="si", label=f"{_soft(some):.2f}"))
        yield charts.Panel(workload["title"], "busy cores", tuple(bars))


def _line_panels(curve):
    for metric in curve["points"][0]["metrics"]:
        lines = {}
        for network in curve["points"][0]["samples"]:
            found = [(p["x"], p["summary"][network][metric["key"]]["median"]) for p in curve["points"]
                     if metric["key"] in p["summary"][network]]
            if found:
                lines[network] = found
        if lines:
            yield charts.Lines(metric["title"], f"{metric['unit']} ({metric['better']} is better)",
                               lines)


def _charts(results):
    """{file: SVG}"""
    networks = _keys(results)
    if results["kind"] == "scale":
        return {f"{c['key']}.svg": charts.chart(list(_line_panels(c)), networks, f"over {c['axis']}")
                for c in results["curves"]}
    files = {}
    key = ", ".join(f"{n}: {t['title']}" for n, t in zip(networks, results["networks"]))
    for name, group in _groups(results).items():
        files[f"{name}.svg"] = charts.chart(list(_panels(results, group)), networks, key)
        files[f"{name}-cpu.svg"] = charts.chart(
            list(_processor_panels(results, group)), networks,
            f"For each of {', '.join(networks)}: S server, C client (from below: user, system, "
            "broker), si soft interrupts of all cores")
    return files


def write(results, directory):
    """report.md and its charts."""
    try:
        os.makedirs(directory, exist_ok=True)
        for name, text in {"report.md": markdown(results, ""), **_charts(results)}.items():
            with open(f"{directory}/{name}", "w", encoding="utf-8") as f:
                f.write(text)
    except OSError as e:
        raise LabError(f"{e.filename or directory}: {e.strerror}") from None
