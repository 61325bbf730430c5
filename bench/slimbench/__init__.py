# SPDX-License-Identifier: Apache-2.0
"""
What bench/bench is made of, on top of tools/slimlab. Standard library only, Python 3.9 and later.

    workloads  the rows: which servers, which client, which numbers
    runner     runs them over the networks in turn
    cpu        who used the processors meanwhile
    order      which network comes when
    results    a run as JSON: reading, writing, medians and ratios
    report     results as Markdown, charts as SVG
    compare    two runs: what became clearly worse
    machine    what they were measured on
    cli        the command line
"""
