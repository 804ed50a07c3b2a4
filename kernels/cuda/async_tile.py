"""The product of float32 matrices, C = A B, with its epilogue: panels come by copies that no thread waits for.

A block of 256 threads computes a square tile of C. A thread has 8 x 8 sums in registers, in tiles of 32 8 x 4: rows
and columns by four, the second four half a tile beyond the first. In tiles of 64 threads make four teams, in tiles of
32 eight, and each team takes its share of the terms of a panel; their sums are added in order. Panels of A and B pass
through shared memory in four stages: while one is multiplied, three are on their way there, past the registers.

An operand whose lines are aligned is copied 16 bytes at a time, and what it has side by side stays so: across the sum
a panel has a row for each term, and four lines of a term are read at once; along the sum it has a row for each line,
and four terms of a line are read at once. Any other operand is copied number by number, into rows of a term.

Beyond the last term there are zeros. Beyond the last row or column there is the last one again, which takes no test in
the loop: what becomes of it is not written. A finished tile goes through shared memory once more, as in `tile.py`,
whose symbols these are.
"""

import functools

import numpy as np

from .primitives import (
    await_copies,
    await_copies_but_two,
    close_copies,
    copy1_async,
    copy4_async,
    global_at,
    load4,
    outer4,
    shared_memory,
    store4,
)
from .tiling import ACROSS, ALONG, KEPT, QUARTER, THREADS, finish_of
from .toolchain import cuda, device, kernel

REAL = np.float32
# Sides of tiles, and instructions a multiply-add with each (docs/kernels.md); in `tile.py` it takes 1.84
TILES = {128: 1.10, 64: 1.14, 32: 1.25}
HELD = 8 * THREADS  # numbers of an operand in a panel, eight a thread
STAGES = 4  # of which `await_copies_but_two` leaves two under way
BETWEEN = 8  # more from term to term: so four terms of eight lines, which a warp copies singly, share no bank


def depth_of(tile):
    """Terms of the sum in a panel."""
    return HELD // tile


def teams_of(tile):
    """Teams of threads that share the terms of a panel."""
    return {128: 1, 64: 4, 32: 8}[tile]


def blocks_of(tile, how_a, how_b):
    """Blocks that a multiprocessor must have room for.

    Along the sum, four terms of 8 + 8 lines take 64 registers beside 64 sums: with 128 registers a thread spilled.
    """
    return 1 if ALONG in (how_a, how_b) and tile >= QUARTER else 2


def shared_of(tile):
    """Bytes of shared memory of a block, for which the launch asks."""
    return 4 * STAGES * 2 * _panel_of(tile)


def _panel_of(tile):
    """Elements between the panels of two operands: room for those of every way of copying."""
    return depth_of(tile) * (tile + BETWEEN)


@functools.cache
def _copies_of(tile, how):
    """(start, copy) of an operand.

    `start`: where this thread's first number stands, in the operand and in a panel; its term; and how far the other
    line is that the thread copies from. `copy`: queue the thread's share of a panel, of which `left` terms are there.
    """
    ld, depth, lines = tile + BETWEEN, depth_of(tile), min(tile, QUARTER)
    by_lines, by_terms = tile // 4, depth // 4  # copies of 16 bytes that bring a term of all lines, or a line
    together, apart = THREADS // by_lines, THREADS // lines  # terms that all threads copy at once
    half = tile // 2  # THREADS // by_terms lines, which all threads copy at once

    @device
    def start_across(p, side, by_side, by_term):
        term, i = cuda.threadIdx.x // by_lines, cuda.threadIdx.x % by_lines * 4
        return p + (min(i, side - 4) + term * by_term), term * ld + i, np.int32(term), 0

    @device
    def copy_across(to, p, by_term, other, left):
        left = np.int32(left)
        copy4_async(to, p, left > 0)
        copy4_async(to + together * ld, p + together * by_term, left > together)

    @device
    def start_along(p, side, by_side, by_term):
        i, term = cuda.threadIdx.x // by_terms, cuda.threadIdx.x % by_terms * 4
        line, other = min(i, side - 1), min(i + half, side - 1)
        return p + (line * by_side + term), _place(depth, i, term), np.int32(term), (other - line) * by_side

    @device
    def copy_along(to, p, by_term, other, left):
        copy4_async(to, p, left > 0)
        copy4_async(to + _place(depth, half, 0), p + other, left > 0)

    @device
    def start_singly(p, side, by_side, by_term):
        t = cuda.threadIdx.x
        term, i = (t & 3) + (t >> 2) // lines * 4, (t >> 2) % lines
        line, other = min(i, side - 1), min(i + QUARTER, side - 1)
        return p + (line * by_side + term * by_term), term * ld + i, np.int32(term), (other - line) * by_side

    @device
    def copy_singly(to, p, by_term, other, left):
        left = np.int32(left)
        for term in range(0, depth, apart):
            copy1_async(to + term * ld, p, left > term)
            if tile > lines:
                copy1_async(to + (term * ld + QUARTER), p + other, left > term)
            p = p + apart * by_term

    return {ACROSS: (start_across, copy_across), ALONG: (start_along, copy_along)}.get(how, (start_singly, copy_singly))


@device
def _place(depth, line, term):
    """Where a number stands in a panel of rows of lines: with 16 bytes after every four, eight fours share no bank."""
    return line * depth + (line >> 2) * 4 + term


@functools.cache
def _reads_of(tile, how):
    """(place, four, half, further) of an operand in a panel.

    `place`: where a number stands. `four`: four terms of the four lines from there on, term by term. `half`: from four
    lines to those half a tile on. `further`: from four terms to the next.
    """
    ld, depth = tile + BETWEEN, depth_of(tile)

    @device
    def place_along(line, term):
        return _place(depth, line, term)

    @device
    def four_along(p):
        x, y, z, w = load4(p), load4(p + depth), load4(p + 2 * depth), load4(p + 3 * depth)
        return (x[0], y[0], z[0], w[0]), (x[1], y[1], z[1], w[1]), (x[2], y[2], z[2], w[2]), (x[3], y[3], z[3], w[3])

    @device
    def place_across(line, term):
        return term * ld + line

    @device
    def four_across(p):
        return load4(p), load4(p + ld), load4(p + 2 * ld), load4(p + 3 * ld)

    if how == ALONG:
        return place_along, four_along, tile // 2 * depth + tile // 2, 4
    return place_across, four_across, tile // 2, 4 * ld


@device
def _add_four(sums, x, y):
    """The sums of a part with four terms of each operand."""
    return outer4(outer4(outer4(outer4(sums, x[0], y[0]), x[1], y[1]), x[2], y[2]), x[3], y[3])


def _in_turn(add, count, by_a, by_b):
    """Add so many fours of terms, one after another: LLVM unrolls no loop with so many operands."""
    if count == 1:
        return add
    add_rest = _in_turn(add, count - 1, by_a, by_b)

    @device
    def add_all(sums, line_a, line_b):
        return add_rest(add(sums, line_a, line_b), line_a + by_a, line_b + by_b)

    return add_all


@functools.cache
def _adds_of(tile, how_a, how_b):
    """(what a thread holds at first, add a team's share of a panel to its sums, add what it holds at last).

    Alone on a multiprocessor, a block would stand still behind each barrier until numbers have come from shared memory:
    so it holds the last four terms of a panel in registers, and multiplies them meanwhile.
    """
    (_, four_a, half_a, by_a), (_, four_b, half_b, by_b) = _reads_of(tile, how_a), _reads_of(tile, how_b)
    fours = depth_of(tile) // teams_of(tile) // 4

    @device
    def fetch_small(line_a, line_b):
        return four_a(line_a), four_b(line_b), four_a(line_a + half_a)

    @device
    def add_small(sums, held):
        (a, c), (low, left, high) = sums, held
        return _add_four(a, low, left), _add_four(c, high, left)

    @device
    def fetch_large(line_a, line_b):
        return four_a(line_a), four_b(line_b), four_b(line_b + half_b), four_a(line_a + half_a)

    @device
    def add_large(sums, held):  # part by part, which takes fewest registers at a time
        (a, b, c, d), (low, left, right, high) = sums, held
        a, b = _add_four(a, low, left), _add_four(b, low, right)
        return a, b, _add_four(c, high, left), _add_four(d, high, right)

    fetch, add_held = (fetch_small, add_small) if tile < QUARTER else (fetch_large, add_large)

    @device
    def add_four(sums, line_a, line_b):
        return add_held(sums, fetch(line_a, line_b))

    add_all, add_first = _in_turn(add_four, fours, by_a, by_b), _in_turn(add_four, fours - 1, by_a, by_b)

    @device
    def add_panel(sums, held, line_a, line_b):
        return add_all(sums, line_a, line_b), held

    @device
    def add_nothing(sums, held):
        return sums

    @device
    def add_and_hold(sums, held, line_a, line_b):
        sums = add_first(add_held(sums, held), line_a, line_b)
        return sums, fetch(line_a + (fours - 1) * by_a, line_b + (fours - 1) * by_b)

    if blocks_of(tile, how_a, how_b) > 1:
        return (), add_panel, add_nothing
    return (((REAL(0.0),) * 4,) * 4,) * 4, add_and_hold, add_held


@functools.cache
def _sums_of(tile):
    """(what the sums of a thread begin with, where they stand, bring a part of the tile into shared memory)."""
    teams, half, parts = teams_of(tile), tile // 2, 4 if tile > 32 else 2

    @device
    def spot():
        """Row, column and team of this thread's sums: with lanes so, no load of 128 bits takes more than two turns."""
        warp, lane = cuda.threadIdx.x >> 5, cuda.threadIdx.x & 31
        i, j = ((lane & 1) + (lane >> 4) * 2) * 4, (lane >> 1 & 7) * 4
        if tile > QUARTER:
            return (warp & 3) * 16 + i, (warp >> 2) * 32 + j, 0
        if tile == QUARTER:
            return (warp & 1) * 16 + i, j, warp >> 1
        return i, j, warp

    @device
    def put(part, to):
        """Bring sums from the registers to shared memory."""
        store4(to, part[0], part[1], part[2], part[3])
        store4(to + KEPT, part[4], part[5], part[6], part[7])
        store4(to + 2 * KEPT, part[8], part[9], part[10], part[11])
        store4(to + 3 * KEPT, part[12], part[13], part[14], part[15])

    @device
    def add_up(space):
        """Sums of a tile, those of all teams in order, in place of those of the first."""
        for i in range(0, tile, 4 * THREADS // tile):
            at = space + ((i + cuda.threadIdx.x // (tile // 4)) * KEPT + cuda.threadIdx.x % (tile // 4) * 4)
            a, b, c, d = load4(at)
            for other in range(1, teams):
                e, f, g, h = load4(at + other * tile * KEPT)
                a, b, c, d = a + e, b + f, c + g, d + h
            store4(at, a, b, c, d)
        cuda.syncthreads()

    @device
    def gather(acc, space):
        """Bring all sums together in shared memory: the tile."""
        i, j, team = spot()
        to = space + ((team * tile + i) * KEPT + j)
        cuda.syncthreads()
        put(acc[0], to)
        if tile == QUARTER:
            put(acc[1], to + half)
            put(acc[2], to + half * KEPT)
            put(acc[3], to + (half * KEPT + half))
        else:
            put(acc[1], to + half * KEPT)
        cuda.syncthreads()
        add_up(space)

    @device
    def gather_part(part, space):
        i, j, _ = spot()
        cuda.syncthreads()
        put(part, space + (i * KEPT + j))
        cuda.syncthreads()

    return ((REAL(0.0),) * 16,) * parts, spot, gather if teams > 1 else gather_part


@functools.cache
def async_product_of(tile, how_a, how_b, epilogue, key, sums):
    """C = A B for tiles of `tile` x `tile`, one of TILES, and its epilogue: as `tile.product_of`.

    The launch gives a block `shared_of(tile)` bytes of shared memory.
    """
    (start_a, copy_a), (start_b, copy_b) = _copies_of(tile, how_a), _copies_of(tile, how_b)
    place_a, place_b = _reads_of(tile, how_a)[0], _reads_of(tile, how_b)[0]
    (nothing_held, add_panel, add_held), (nothing_yet, spot, gather) = _adds_of(tile, how_a, how_b), _sums_of(tile)
    zero, finish = REAL(0.0), finish_of(REAL, epilogue, key)
    depth, terms = depth_of(tile), depth_of(tile) // teams_of(tile)
    panel, sharing = _panel_of(tile), THREADS // tile  # threads that share the sum of a row of A
    stage, size = 2 * panel, 2 * panel * STAGES  # of A and of B; in all stages

    @device
    def quarter(part, space, down, right, *rest):
        """Finish a part of the tile."""
        gather(part, space)
        finish(space, down, right, *rest)

    @kernel(THREADS, min_blocks_per_sm=blocks_of(tile, how_a, how_b))
    def product(
        m, n, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, cs_c, wide,
        part, between, param, extra_1, rs_1, cs_1, extra_2, rs_2, cs_2, summed, by,
    ):  # fmt: skip
        space, t = shared_memory(REAL, 0), cuda.threadIdx.x
        row0, col0, k0, part_at = (
            cuda.blockIdx.x * tile,
            cuda.blockIdx.y * tile,
            cuda.blockIdx.z * part,
            cuda.blockIdx.z * between,
        )
        by_a, by_b = 1 if how_a == ALONG else cs_a, 1 if how_b == ALONG else rs_b  # from term to term
        left, m, n = np.int32(min(k - k0, part)), m - row0, n - col0
        p, to_a, term_a, other_a = start_a(global_at(a, REAL) + (row0 * rs_a + k0 * by_a), m, rs_a, by_a)
        q, to_b, term_b, other_b = start_b(global_at(b, REAL) + (k0 * by_b + col0 * cs_b), n, cs_b, by_b)
        to_a, to_b, due = space + to_a, space + (panel + to_b), left
        for ahead in range(STAGES - 1):
            copy_a(to_a + ahead * stage, p, by_a, other_a, due - term_a)
            copy_b(to_b + ahead * stage, q, by_b, other_b, due - term_b)
            close_copies()
            p, q, due = p + depth * by_a, q + depth * by_b, np.int32(due - depth)
        term_a, term_b = np.int32(term_a + (STAGES - 1) * depth), np.int32(term_b + (STAGES - 1) * depth)
        i, j, team = spot()
        acc, line_a, line_b = nothing_yet, space + place_a(i, team * terms), space + (panel + place_b(j, team * terms))
        total, adds_up, held = zero, sums and cuda.blockIdx.y == 0, nothing_held
        current, free = np.int32(0), np.int32(size - stage)
        while left > 0:
            await_copies_but_two()
            cuda.syncthreads()
            copy_a(to_a + free, p, by_a, other_a, left - term_a)
            copy_b(to_b + free, q, by_b, other_b, left - term_b)
            close_copies()
            if adds_up:
                for term in range(0, depth, sharing):
                    total += space[current + place_a(t % tile, term + t // tile)]
            acc, held = add_panel(acc, held, line_a + current, line_b + current)
            left, p, q = np.int32(left - depth), p + depth * by_a, q + depth * by_b
            free, current = current, np.int32(current + stage)
            current = np.int32(0) if current == size else current
        await_copies()
        acc = add_held(acc, held)
        if adds_up:
            cuda.syncthreads()
            space[t] = total
            cuda.syncthreads()
            if t < tile and t < m:
                for other in range(1, sharing):
                    total += space[t + other * tile]
                sums_at = global_at(summed, REAL) + part_at
                sums_at[(row0 + t) * by] = total
        to = global_at(c, REAL) + (part_at + row0 * rs_c + col0 * cs_c)
        first = global_at(extra_1, REAL) + (row0 * rs_1 + col0 * cs_1)
        second = global_at(extra_2, REAL) + (row0 * rs_2 + col0 * cs_2)
        m, n = min(m, tile), min(n, tile)
        rest = m, n, to, rs_c, cs_c, wide, param, first, rs_1, cs_1, second, rs_2, cs_2, extra_2 != 0
        quarter(acc[0] if tile > QUARTER else acc, space, 0, 0, *rest)
        if tile > QUARTER:
            quarter(acc[1], space, 0, QUARTER, *rest)
            quarter(acc[2], space, QUARTER, 0, *rest)
            quarter(acc[3], space, QUARTER, QUARTER, *rest)

    return product
