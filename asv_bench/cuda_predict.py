"""What a step of each row of the GPU's targets does, and how long a simple model of an H100 takes for it; no GPU.

    NUMBA_ENABLE_CUDASIM=1 python asv_bench/cuda_predict.py > docs/predictions.md

Which loop runs, its blocks and threads, its launches and their sizes are those of the plans themselves; instructions a
multiply-add are read from docs/kernels.md. Measured times are those of the race on the card, of the same loop. The
model counts, and leaves out what it cannot: collisions in memory, the order of instructions, caches that are cold.
"""

import functools
import json
import math
import re
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from cuda_racers import RACED
from report import number, table

from fastnn.kernels import formulas, tables
from fastnn.kernels.cuda import driver, graph, schedule
from fastnn.kernels.cuda.async_tile import TILES, depth_of
from fastnn.kernels.cuda.loop_tiles import tiles_of
from fastnn.kernels.cuda.matmul import Side, multiply
from fastnn.kernels.cuda.toolchain import SIMULATED
from fastnn.kernels.state import TrainingState

if not SIMULATED:
    sys.exit("set NUMBA_ENABLE_CUDASIM=1: in the simulator plans are made without a GPU, and what sizes say is Python")
ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "asv_bench" / "results" / "cuda" / "nvidia-h100-80gb-hbm3.json"

# An H100 SXM. NVIDIA's datasheet and whitepaper: 132 multiprocessors of 128 lanes, 66.9 TFLOP/s and so 1.98 GHz, which
# is the clock that the race found; 3.35 TB/s; 227 KB of shared memory for a block, 50 MB of L2.
PROCESSORS, LANES, CLOCK, HBM, L2_BYTES, BLOCK_BYTES = 132, 128, 1.98e9, 3.35e12, 50e6, 227 << 10
SCHEDULERS = 4  # of a multiprocessor, each with an instruction of a warp a cycle
SHARED, NEAR = 128, 64  # bytes a cycle of a multiprocessor from its shared memory, and from L2 through L1
# Cycles until a number is there: arXiv 2402.13499 (Luo et al., an H100 dissected), and its 5.5 TB/s of L2 as a bound
SHARED_LATENCY, L2_LATENCY, L2 = 29, 263, 5.5e12
MATRIX = {"tf32": 0.63 * 495e12, "bf16": 0.63 * 989e12}  # mma.sync has 63% of the tensor cores' peak there
# A barrier of a block of 512 threads, and one of the grid: an atomic operation and a look at the counter, there and
# back, behind one of each block that the counter takes in turn, two cycles each (estimates)
BLOCK_BARRIER = 40
GRID_BARRIER = 2 * BLOCK_BARRIER + 4 * L2_LATENCY + 2 * PROCESSORS
NODE = "a graph of 100 x.add_(1), each"  # a node with hardly any work, of which the race measured the microseconds

# Microseconds a step, or the share of torch's graph, that a row is to take at most; of cuBLAS for a product
GOALS = {"2x16, 32": 4, "2x64, 32": 8, "2x64, 512": 12, "2x64, 8192": 25, "3x256, 32": 20, "3x256, 512": 50}
GOALS |= {"3x256, 8192": 260, "4x1024, 512": 400, "logistic, 10000": 40}
LIKE_TORCH = ("4x1024, 8192", "4x1024, 131072")
PRODUCTS = {("float32", 1024): 0.8, ("float32", 4096): 0.95, ("bf16", 4096): 0.7, ("tf32", 4096): 0.7}
# Instructions of one item that is no multiply-add (estimates from the listings of the kernels)
# What docs/kernels.md calls the kernels whose inner pieces are counted; products by the side of their tiles
INNER = {64: "product forward, middle: product", 128: "product input gradient: product"}
INNER |= {32: "product input gradient, small: product"}
INNER |= {"block": "loop of one block: run", "grid": "loop of a grid: run"}
OF_AN_ELEMENT, OF_A_TILE, OF_AN_OUTPUT = 25, 60, 60


# When the loops, with their products, and the products of tensor cores were last written anew
WRITTEN = {"block": "2026-11-26T17:19", "grid": "2026-11-26T17:19", "graph": "2026-11-27T06:30", "tensor": ""}


class Phase(NamedTuple):
    """What the threads of a loop do between two barriers.

    `items`: threads that have something to do, one behind the other where there are more of them than threads. Of an
    item: `fmas` multiply-adds, `more` instructions beside them and theirs, `loads` of 16 bytes from the workspace,
    `trips` to it, one after another. `far`: bytes of the whole phase from and to the memory of the card, in one trip.
    """

    name: str
    items: int
    fmas: float = 0
    more: float = OF_AN_ELEMENT
    loads: float = 0
    trips: float = 1
    far: int = 0
    barriers: int = 1


class Row(NamedTuple):
    """A step, or a product: bytes of the card's memory and of L2 (`far`), and of shared memory (`near`)."""

    loop: str
    shape: str
    flops: float
    far: float
    near: float
    block_barriers: int
    grid_barriers: int
    launches: int
    ratio: str
    seconds: float


@functools.cache
def race():
    """What the race on the card found."""
    return json.loads(MEASURED.read_text(encoding="utf-8"))


@functools.cache
def ratios():
    """Instructions a multiply-add of the inner piece by the names of docs/kernels.md, in float32 for sm_90."""
    page = (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (.*) \| float32 \| sm_90 \|.* ([\d.]+) \|$", page, re.MULTILINE)
    return {name: float(ratio) for name, ratio in found}


def plan_of(work):
    """The plan of a workload's steps on the card, on which nothing is uploaded."""
    program = work.net(device="cuda").program
    parameters = np.zeros(program.size, np.float32)
    with (
        mock.patch.object(schedule, "shared_bytes", lambda: BLOCK_BYTES),
        mock.patch.object(schedule, "multiprocessors", lambda: PROCESSORS),
    ):
        plan = driver.Plan(program, parameters, work.batch, tables.TRAIN, TrainingState(parameters, 0))
    rule = formulas.named(formulas.RULES, work.optimizer)
    plan.bind_rule(rule, dict.fromkeys(rule.settings, 0.5))
    X = np.broadcast_to(np.float32(0), (work.rows, program.n_features))
    plan.bind_data(X, np.zeros((work.rows, 1), np.float32), labels=work.loss == "cross_entropy")
    return plan


def phases(plan):
    """The phases of a step of a loop, without weights, l2, dropout and clipping: those of `step.run_of`."""
    program, places, count, tiles = plan.program, plan.schedule, plan["BATCH"], tiles_of(np.float32)
    padded, threads = -(-count // 4) * 4, math.prod(places.shape)
    groups, features, size = padded // 4, program.n_features, program.size
    states = len(formulas.RULES[plan.structure.rule].states)
    found, gathered = [], padded * features
    if plan["KEEPS_ROWS"] and count >= plan["ROWS"]:  # they stay where the first step left them
        gathered = 0
    elif places.loop == "block":
        found.append(Phase("rows", padded))
    found.append(Phase("gather", gathered, far=8 * gathered))
    gradients, with_bias, backward = 0, 0, []
    for operation, record in zip(program.operations, schedule.records_of(program), strict=True):
        n_in, n_out = int(record[tables.Op.N_IN]), int(record[tables.Op.N_OUT])
        activates = not record[tables.Op.FLAGS] & tables.LOGITS and operation.activation.code != formulas.LINEAR
        found.append(_product("forward", threads, groups * -(-n_out // 4), n_in, tiles, 4))
        width = schedule.gradient_width_of(program, record, plan.command)
        each = [Phase("slope", n_out * padded)] if activates else []
        if width:
            each.append(_product("input gradient", threads, groups * -(-width // 4), n_out, tiles, 2))
        backward[:0] = each
        gradients += places.parts * -(-n_out // 4) * -(-n_in // 4)
        with_bias += places.parts * -(-n_out // 4) * (-(-n_in // 4) + 1)
    lanes = tiles.sharing(threads, padded, program.outputs << 4) if places.loop == "block" else 1
    outputs = program.outputs / lanes
    found.append(Phase("loss", padded * lanes, more=OF_AN_OUTPUT * outputs + OF_A_TILE, trips=3 * outputs))
    samples = padded / places.parts
    fmas = 16 * samples * gradients / with_bias
    found += [*backward, Phase("gradient", with_bias, fmas, OF_A_TILE, 2 * samples, samples / 4)]
    moved = size * (8 * states + (4 * places.parts + 8) * (places.loop == "grid"))
    update = Phase("update", -(-size // 4), 0, 10 * 4 * (1 + states), places.parts + 1, 2, moved)
    return [*found, update]


def _product(name, threads, items, terms, tiles, unrolled):
    """A product in tiles of 4 x 4, whose sums some threads share; `unrolled`: terms of which the loads go together."""
    share = tiles.sharing(threads, items, terms)
    each, exchanged = -(-terms // share), 16 * 2 * math.log2(share)
    return Phase(name, items * share, 16 * each, OF_A_TILE + exchanged, 2 * each, each / unrolled)


def of_loop(plan):
    """A step of one block or of a grid: each phase is bound by instructions, by one thread's chain, or by bytes."""
    (blocks, threads), whole_grid = plan.schedule.shape, plan.schedule.loop == "grid"
    ratio = ratios()[INNER[plan.schedule.loop]]
    latency, width = (L2_LATENCY, NEAR) if whole_grid else (SHARED_LATENCY, SHARED)
    barrier, cycles, steps = GRID_BARRIER if whole_grid else BLOCK_BARRIER, 0, phases(plan)
    for phase in steps:
        rounds, instructions = -(-phase.items // (blocks * threads)), phase.fmas * ratio + phase.more
        warps = -(-min(threads, -(-phase.items // blocks)) // 32)
        issue = rounds * -(-warps // SCHEDULERS) * instructions
        chain = rounds * (instructions + phase.trips * latency + (L2_LATENCY if phase.far else 0))
        moved = 16 * phase.loads * phase.items / (blocks * width)
        cycles += max(issue, chain, moved, phase.far * CLOCK / (L2 if blocks > 1 else NEAR * CLOCK))
        cycles += phase.barriers * barrier
    barriers = sum(phase.barriers for phase in steps)
    near, far = (sum(16 * p.loads * p.items for p in steps), sum(p.far for p in steps))
    return Row(
        plan.schedule.loop,
        f"{blocks} x {threads}",
        sum(2 * p.fmas * p.items for p in steps),
        far + near * whole_grid,
        near * (not whole_grid),
        0 if whole_grid else barriers,
        barriers if whole_grid else 0,
        1,
        f"{ratio:.2f}",
        cycles / CLOCK,
    )


class Node(NamedTuple):
    """A launch: what it computes and moves, and seconds beyond those of any node."""

    flops: float
    far: float
    near: float
    barriers: int
    ratio: float | None
    seconds: float


def node_of(launch, plan, precision="float32"):
    """What a launch of the graph's loop does, by its kernel's name and its arguments."""
    name, numbers = launch.kernel.fn.__name__, launch.arguments
    if name in ("product", "tensor_product"):
        return _tiled(launch, precision)
    batch, features, outputs = plan["BATCH"], plan.program.n_features, plan.program.outputs
    elements = {
        "pick": 4 * batch + 2 * batch * features,
        "losses": 3 * batch * outputs,
        "advance": 0,
    }
    if name in elements:
        return _streamed(4 * elements[name])
    if name == "backward":
        return _streamed(4 * 3 * int(numbers[1]) * int(numbers[2]))
    if name == "update":
        states = len(formulas.RULES[plan.structure.rule].states)
        return _streamed(4 * (2 + 2 * states + plan.schedule.parts) * plan.program.size)
    raise ValueError(f"launch must be of a kernel that the model knows; got {name}")


def _streamed(moved, flops=0):
    """A pass over memory that is read and written once."""
    return Node(flops, moved, 0, 0, None, moved / (L2 if moved < L2_BYTES else HBM))


def _tiled(launch, precision):
    """A product in square tiles: each multiprocessor works off its blocks, two at a time."""
    m, n, k = (int(each) for each in launch.arguments[:3])
    down, across, parts = launch.blocks
    tile = next(each for each in TILES if (down, across) == (-(-m // each), -(-n // each)))
    depth = depth_of(tile)
    part = -(-k // (16 * parts)) * 16
    far, near = 4 * (m * k + k * n + m * n), 4 * 2 * tile * part * down * across * parts
    iterations, waves = -(-part // depth), -(-down * across * parts // PROCESSORS)
    flops, moved = 2 * m * n * k, max(far / HBM, near / L2)
    if precision != "float32":
        full = tile * tile * part * 2 * waves * PROCESSORS
        seconds = max(full / MATRIX[precision], moved) + 2 * L2_LATENCY / CLOCK
        return Node(flops, far, near, 2 * iterations, None, seconds)
    ratio = ratios()[INNER[tile]]
    each = depth * tile * tile * ratio / launch.threads  # instructions of a thread for a panel
    issue = each * (launch.threads // 32) / SCHEDULERS  # of a block, for one of the schedulers
    alone = each + L2_LATENCY + BLOCK_BARRIER
    cycles = iterations * max(waves * issue, -(-waves // 2) * alone) + 2 * L2_LATENCY
    return Node(flops, far, near, iterations + 2, ratio, max(cycles / CLOCK, moved))


def of_launches(launches, plan, precision="float32", seconds=0.0):
    """A row of launches; `seconds` of each beside its work."""
    nodes = [node_of(launch, plan, precision) for launch in launches]
    used = sorted({node.ratio for node in nodes if node.ratio})
    most = max(launches, key=lambda launch: np.prod(launch.blocks))
    return Row(
        "graph",
        f"up to {np.prod(most.blocks):,} x {np.prod(most.threads)}",
        sum(node.flops for node in nodes),
        sum(node.far for node in nodes),
        sum(node.near for node in nodes),
        sum(node.barriers for node in nodes),
        0,
        len(launches),
        " and ".join(f"{ratio:.2f}" for ratio in used) or "–",
        sum(node.seconds + seconds for node in nodes),
    )


def launches_of(plan):
    """What the graph of a step replays."""
    names = "table", "reals", "parameters", "workspace", "X", "Y", "gradient", *driver.MOMENTS
    for place, name in enumerate(names):
        plan.memory[name] = Nowhere((1 + place) << 40)
    plan.device_program()
    launches = []
    graph.queue_step(plan, launches)
    return launches


class Nowhere(NamedTuple):
    """A device array that has no memory, at an aligned address."""

    address: int

    @property
    def __array_interface__(self):
        return {"data": (self.address, False)}


def of_step(work):
    """The row of a workload."""
    plan = plan_of(work)
    if plan.schedule.loop != "graph":
        return of_loop(plan)
    return of_launches(launches_of(plan), plan, seconds=1e-6 * race()["launches"][NODE])


def of_product(n, precision):
    """The row of a product of square matrices, called by itself in the time of the card."""
    launches, sides = [], [Side(place << 40, n, 1) for place in (1, 2, 3)]
    multiply(np.float32, launches, (n, n, n), *sides, precision=precision)
    return of_launches(launches, None, precision)


def measured(work, loop):
    """(microseconds of a loop in the race, those of torch's graph), None where there are none."""
    trained, loops = (
        next(
            (row["libraries"] for row in race()[part] if (row["name"], row["precision"]) == (work.name, "float32")), {}
        )
        for part in ("training", "loops")
    )
    own = loops or {f"fastnn, {loop}": trained.get("fastnn", {})}
    return own[f"fastnn, {loop}"].get("us"), trained.get("torch graph", {}).get("us")


def line(name, row, goal, own):
    """A row of the page."""
    us = 1e6 * row.seconds
    made = WRITTEN["tensor" if row.ratio == "–" else row.loop]
    changed = "–" if own is None else "yes" if race()["date"] < made else "no"
    cells = [name, row.loop, row.shape, number(row.flops / 1e6), number(row.far / 1e6), number(row.near / 1e6)]
    cells += [f"{row.block_barriers:,}", str(row.grid_barriers), str(row.launches), row.ratio, number(us)]
    return [*cells, number(goal), number(own), number(us / own if own else None, 2), changed]


def lines():
    """All rows of the targets."""
    found = []
    for work in RACED.values():
        key = f"{work.label}, {work.batch}"
        if key in GOALS or key in LIKE_TORCH:
            row = of_step(work)
            own, like_torch = measured(work, row.loop)
            found.append(line(work.name, row, GOALS.get(key, like_torch), own))
    for row in race()["products"]:
        n, precision = row["n"], row["precision"]
        if (precision, n) in PRODUCTS:
            own, theirs = (2e-6 * n**3 / row["libraries"][library]["tflops"] for library in ("fastnn", "cuBLAS"))
            goal = theirs / PRODUCTS[precision, n]
            found.append(line(f"{precision} product {n:,}", of_product(n, precision), goal, own))
    return found


HEAD = """# What a step on a GPU is predicted to take

`NUMBA_ENABLE_CUDASIM=1 python asv_bench/cuda_predict.py > docs/predictions.md` made this page, with no GPU, for each \
row of the race that has a goal; times are microseconds a step, or a product. What runs, and how large it is, comes \
from the plans of the loops, which [On an NVIDIA GPU](gpu.md#how-a-step-runs) explains, and *instructions an FMA* from \
[the table of kernels](kernels.md). Operations are those that are done, edges filled up included. Bytes are those of \
L2 and of the card's memory, and those of shared memory, which threads read, or which pass through it in a product. \
Barriers are those of the threads of a block, summed over the launches, and those of all blocks of a grid.

Of each part of a step the model counts instructions, one thread's chain of them with its waits, and bytes, and takes \
the longest of the three. It adds barriers, and %.2f µs a node of a graph, on an H100 SXM of 132 multiprocessors at \
1.98 GHz; the constants stand in the script with their sources. *Measured* is the race on such a card on %s, by the \
same loop. Where *changed* says yes, the loop or its products have been written anew since, and the ratio says \
little. Where it says no, the ratio says by how much the card is slower than the model.
"""
COLUMNS = ("row", "loop", "blocks x threads", "MFLOP", "MB of L2 and memory", "MB of shared memory", "block barriers")
COLUMNS += ("grid barriers", "launches", "instructions an FMA", "predicted", "goal", "measured", "predicted / measured")
COLUMNS += ("changed",)


def main():
    """Print the page."""
    print(HEAD % (race()["launches"][NODE], race()["date"][:10]))
    print(table(list(COLUMNS), lines()))


if __name__ == "__main__":
    main()
