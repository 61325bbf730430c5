# SPDX-License-Identifier: Apache-2.0
"""In which order the rounds take the networks."""


def orders(n):
    """
    Orders of n things, as Williams' Latin squares have them: taken in turn, each thing is equally often
    the first, the second and so on, and comes equally often just after each other one. n of them
    for an even n, twice as many for an odd one.
    """
    if n == 1:
        return [[0]]
    first, low, high = [0], 1, n - 1
    while len(first) < n:
        first.append(low if len(first) % 2 else high)
        if len(first) % 2 == 0:
            low += 1
        else:
            high -= 1
    square = [[(k + shift) % n for k in first] for shift in range(n)]
    return square if n % 2 == 0 else square + [row[::-1] for row in square]


def order_of(round_number, things):
    rows = orders(len(things))
    return [things[k] for k in rows[round_number % len(rows)]]
