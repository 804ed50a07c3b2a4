"""What a step of each row of the GPU's targets does, and how long a simple model of an H100 takes for it; no GPU.

    NUMBA_ENABLE_CUDASIM=1 python asv_bench/cuda_predict.py > docs/predictions.md

Which loop runs, its blocks and threads, its launches and their sizes are those of the plans themselves; instructions a
multiply-add are read from docs/kernels.md. Measured times are those of the race on the card, of the same loop. The
model counts, and leaves out what it cannot: collisions in memory, the order of instructions, caches that are cold.
"""

import functools
import importlib
import json
import math
import re
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from cuda_racers import RACED
from report import number, table

from fastnn.kernels import formulas, tables
from fastnn.kernels.cuda import driver, graph, hopper, schedule
from fastnn.kernels.cuda.async_tile import TILES, depth_of
from fastnn.kernels.cuda.loop_tiles import SPREAD, tiles_of
from fastnn.kernels.cuda.matmul import Side, multiply, work_size
from fastnn.kernels.cuda.phases import AT_ONCE
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
PEAK = {"tf32": 495e12, "bf16": 989e12}
MMA = 0.63  # of the peak, which mma.sync has there
# Of wgmma fed by copies in bulk, without multicast: kernel 6 of github.com/pranjalssh/fast.cu, whose README has 777.5
# TFLOP/s in bfloat16 at 8,192 by tiles of 192 x 192: that many bytes a second pass from L2 to shared memory, at least
WGMMA, BULK = 777.5 / 989, 8.2e12
# A barrier of a block of 512 threads, and one of the grid: an atomic operation and a look at the counter, there and
# back, behind one of each block that the counter takes in turn, two cycles each (estimates)
BLOCK_BARRIER = 40
GRID_BARRIER = 2 * BLOCK_BARRIER + 4 * L2_LATENCY + 2 * PROCESSORS
# Cycles of an instruction for a thread whose next one waits for it, and instructions of a phase beside its items: of a
# warp cuda_cycles.py counts 1,590, between 8 barriers, in a step of 2x16 by 32 in one block (2026-11-27)
CHAINED, OF_A_PHASE = 4.5, 75
# Seconds that a node with work takes beyond one with hardly any, until its first numbers are there and its last are
# written (the same profile: 4.7 us for a product of 0.1 us, 3 for a kernel of one block that writes ten numbers)
START = 2e-6
NODE = "a graph of 100 x.add_(1), each"  # a node with hardly any work, of which the race measured the microseconds

# Microseconds a step, or the share of torch's graph, that a row is to take at most; of cuBLAS for a product
GOALS = {"2x16, 32": 4, "2x64, 32": 8, "2x64, 512": 12, "2x64, 8192": 25, "3x256, 32": 20, "3x256, 512": 50}
GOALS |= {"3x256, 8192": 260, "4x1024, 512": 400, "logistic, 10000": 40}
LIKE_TORCH = ("4x1024, 8192", "4x1024, 131072")
ROUNDED = ("4x1024, 8192",)  # in tf32 and bf16, too
PRODUCTS = {("float32", 1024): 0.8, ("float32", 4096): 0.95, ("bf16", 4096): 0.7, ("tf32", 4096): 0.7}
# Instructions of one item that is no multiply-add (estimates from the listings of the kernels)
# What docs/kernels.md calls the kernels whose inner pieces are counted; products by the side of their tiles
INNER = {64: "product forward, middle: product", 128: "product input gradient: product"}
INNER |= {32: "product input gradient, small: product"}
INNER |= {"block": "loop of one block: run", "shards": "loop of shards: run", "grid": "loop of a grid: run"}
OF_AN_ELEMENT, OF_A_TILE, OF_AN_OUTPUT, OF_A_ROW = 25, 60, 60, 270


# When the loops, with their products, and those by wgmma were last written anew
WRITTEN = dict.fromkeys(("block", "shards", "grid"), "2026-11-28T02:00")
WRITTEN |= {"graph": "2026-11-27T15:50", "wgmma": "2026-11-27T06:00"}


class Phase(NamedTuple):
    """What the threads of a loop do between two barriers.

    `items`: threads that have something to do, one behind the other where there are more of them than threads. Of an
    item: `fmas` multiply-adds, `more` instructions beside them and theirs, `loads` of 16 bytes from the workspace,
    `trips` to it, one after another. `far`: bytes of the whole phase from and to the memory of the card, in one trip.
    `of_all`: all blocks of shards deal out the items, else each has so many, and such bytes, by itself; `meets`: all
    blocks wait at the end. `awaited`: the bytes are read, so that each round waits for them. `beside`: done in
    the time of the next phase, by threads that have no part in it.
    """

    name: str
    items: int
    fmas: float = 0
    more: float = OF_AN_ELEMENT
    loads: float = 0
    trips: float = 1
    far: int = 0
    barriers: int = 1
    of_all: bool = False
    meets: bool = False
    awaited: bool = True
    beside: bool = False


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


@contextmanager
def on_the_card():
    """What is asked of the card is answered as an H100 would."""
    products = importlib.import_module("fastnn.kernels.cuda.matmul")  # whose name in the package is a function
    answers = {(schedule, "shared_bytes"): BLOCK_BYTES, (schedule, "multiprocessors"): PROCESSORS}
    answers |= {(products, "has_wgmma"): True, (products, "trusts_wgmma"): True}
    with ExitStack() as patches:
        for (module, name), answer in answers.items():
            patches.enter_context(mock.patch.object(module, name, lambda *_, answer=answer: answer))
        yield


def plan_of(work, precision="float32"):
    """The plan of a workload's steps on the card, on which nothing is uploaded."""
    program = work.net(device="cuda").program
    parameters = np.zeros(program.size, np.float32)
    with on_the_card():
        state = TrainingState(parameters, 0)
        plan = driver.Plan(program, parameters, work.batch, tables.TRAIN, state, precision)
    rule = formulas.named(formulas.RULES, work.optimizer)
    plan.bind_rule(rule, dict.fromkeys(rule.settings, 0.5))
    X = np.broadcast_to(np.float32(0), (work.rows, program.n_features))
    plan.bind_data(X, np.zeros((work.rows, 1), np.float32), labels=work.loss == "cross_entropy")
    return plan


def phases(plan):
    """The phases of a step of a loop, without weights, l2, dropout and clipping: those of `step.run_of`."""
    program, places, count, tiles = plan.program, plan.schedule, plan["BATCH"], tiles_of(np.float32)
    whole_grid = places.loop == "grid"
    count = count if whole_grid else min(count, places.shard)
    padded, threads = -(-count // 4) * 4, math.prod(places.shape) if whole_grid else places.shape[1]
    groups, features = padded // 4, program.n_features
    found, gathered, drawn = [], padded * features, OF_A_ROW * whole_grid
    if plan["KEEPS_ROWS"] and plan["BATCH"] >= plan["ROWS"]:  # they stay where the first step left them
        gathered = 0
    elif not whole_grid:
        found.append(Phase("rows", padded, more=OF_A_ROW, barriers=0))  # beside other work
    # with the update of the step before, past the registers where the workspace is shared memory; in a grid beside its
    # loss
    more, far = OF_AN_ELEMENT + drawn, 8 * gathered
    found.append(Phase("gather", gathered, more=more, far=far, barriers=0, awaited=whole_grid, beside=whole_grid))
    gradients, with_bias, backward, pointwise = 0, 0, [], False
    # threads that share a tile of a gradient, and a bias
    together, of_a_bias = (_sharing(tiles, threads, program.dense_size >> 4, padded), SPREAD) if whole_grid else (1, 1)
    for operation, record in zip(program.operations, schedule.records_of(program), strict=True):
        n_in, n_out = int(record[tables.Op.N_IN]), int(record[tables.Op.N_OUT])
        found.append(_product("forward", threads, groups * -(-n_out // 4), n_in, tiles, 4))
        width = schedule.gradient_width_of(program, record, plan.command)
        if width:  # with the slope of the layer before
            terms = n_out << 2 if whole_grid else 2 * n_out - 1
            items = groups * -(-width // 4)
            backward.insert(0, _product("input gradient", threads, items, n_out, tiles, 2, pointwise, terms))
        pointwise = operation.activation.code != formulas.LINEAR
        gradients += places.parts * -(-n_out // 4) * -(-n_in // 4) * together
        with_bias += places.parts * (-(-n_out // 4) * -(-n_in // 4) * together + n_out * of_a_bias)
    if pointwise and not record[tables.Op.FLAGS] & tables.LOGITS:
        backward.insert(0, Phase("slope", n_out * padded))
    lanes = _sharing(tiles, threads, padded, program.outputs << 1)
    outputs = program.outputs / lanes
    found.append(Phase("loss", padded * lanes, more=OF_AN_OUTPUT * outputs + OF_A_TILE + drawn, trips=3 * outputs))
    samples = padded / places.parts / together
    fmas = 16 * samples * gradients / with_bias
    told = 4 * program.dense_size * (places.loop == "shards")  # to the other blocks
    gradient = Phase("gradient", with_bias, fmas, OF_A_TILE, 2 * samples, samples / 4, told, awaited=False)
    if plan.structure.update == AT_ONCE:  # each thread of a tile updates its rows
        states = len(formulas.RULES[plan.structure.rule].states)
        moved, more = 8 * program.dense_size * (1 + states), OF_A_TILE + 40 * (1 + states) * max(4 // together, 1)
        gradient = gradient._replace(name="gradient and update", far=moved, more=more, awaited=True)
        return [*found, *backward, gradient]
    return [*found, *backward, gradient, *_updates(plan)]


def _updates(plan):
    """The phases from the gradient to new parameters."""
    places, size = plan.schedule, plan.program.dense_size
    (blocks, threads), parts, states = places.shape, places.parts, len(formulas.RULES[plan.structure.rule].states)
    fours, more = -(-size // 4), 10 * 4 * (1 + states)
    if places.loop != "shards":  # moments stay in registers
        return [Phase("update", fours, 0, more, parts + 1, 2)]
    most, lanes = min(blocks * threads // fours, blocks, 32), 1
    while 2 * lanes <= most:
        lanes *= 2
    each = blocks / lanes
    return [
        Phase("await", 0, meets=True),
        Phase("collect", fours * lanes, 0, 8 * each + 8 * math.log2(lanes), each, each / 4, 4 * size * blocks, 0, True),
        Phase("update", fours * lanes, 0, more, 2, 1, 8 * size, of_all=True, meets=True),
        Phase("copy", -(-fours // 4), 0, 2 * OF_AN_ELEMENT, 4, 0, 4 * size),
    ]


def _sharing(tiles, threads, items, terms):
    """Threads that share a sum."""
    return 1 << tiles.fold_of(np.int32(threads), np.int32(items), np.int32(terms))


def _product(name, threads, items, terms, tiles, unrolled, sloped=False, shared=None):
    """A product in tiles of 4 x 4, whose sums some threads share, as many as if there were `shared` terms.

    `unrolled`: terms of which the loads go together.
    """
    share = _sharing(tiles, threads, items, shared or terms)
    each, levels = terms / share, math.log2(share)
    # halves of the sums go to the other lane, twice, then a quarter of them to each; a shuffle takes all schedulers
    exchanged = (SCHEDULERS + 3) * (8 * (share > 1) + 4 * max(levels - 1, 0))
    more = OF_A_TILE + exchanged + sloped * OF_AN_ELEMENT * 16 / min(share, 4)
    return Phase(name, items * share, 16 * each, more, 2 * each, math.ceil(each / unrolled) + sloped)


def cycles_of(phase, plan, ratio):
    """Cycles of a phase, bound by instructions, by one thread's chain, or by bytes, and of its barriers."""
    (blocks, threads), loop = plan.schedule.shape, plan.schedule.loop
    of_grid = loop == "grid"
    dealt = blocks if of_grid or phase.of_all else 1  # among so many blocks
    near = not of_grid and not phase.of_all
    latency, width = (SHARED_LATENCY, SHARED) if near else (L2_LATENCY, NEAR)
    rounds, instructions = -(-phase.items // (dealt * threads)), phase.fmas * ratio + phase.more
    warps = -(-phase.items // (dealt * 32))  # of a block, one after another
    issue = -(-warps // SCHEDULERS) * instructions
    awaited = phase.trips * latency + (L2_LATENCY if phase.far and phase.awaited else 0)
    chain = CHAINED * OF_A_PHASE + rounds * (CHAINED * instructions + awaited)
    moved = 16 * phase.loads * phase.items / (dealt * width)
    far = max(phase.far / (dealt * NEAR), phase.far * blocks / dealt * CLOCK / L2)
    barrier = GRID_BARRIER if of_grid or phase.meets else BLOCK_BARRIER
    return max(issue, chain, moved, far) + phase.barriers * barrier


def of_loop(plan):
    """A step of one block, of shards or of a grid."""
    (blocks, threads), loop = plan.schedule.shape, plan.schedule.loop
    whole_grid, steps, ratio = loop == "grid", phases(plan), ratios()[INNER[loop]]
    cycles = sum(cycles_of(phase, plan, ratio) for phase in steps if not phase.beside)
    met = sum(phase.barriers for phase in steps if whole_grid or phase.meets)
    times = [1 if whole_grid or phase.of_all else blocks for phase in steps]  # blocks that each do all of a phase
    near = sum(16 * p.loads * p.items * n for p, n in zip(steps, times, strict=True) if not p.of_all)
    far = sum(p.far * n for p, n in zip(steps, times, strict=True))
    return Row(
        loop,
        f"{blocks} x {threads}",
        sum(2 * p.fmas * p.items * n for p, n in zip(steps, times, strict=True)),
        far + near * whole_grid,
        near * (not whole_grid),
        sum(phase.barriers for phase in steps) - met,
        met,
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
    if name == "wgmma_product":
        return _by_wgmma(launch, precision)
    if name == "twins":  # each operand once, and the panels of both
        m, n, k = map(int, numbers[:3])
        return _streamed(4 * (m + n) * k + 4 * hopper.PANEL * launch.blocks)
    if name == "line_sums":
        return _streamed(4 * int(numbers[0]) * int(numbers[1]))
    batch, features, outputs = plan["BATCH"], plan.program.n_features, plan.program.outputs
    elements = {
        "pick": 4 * batch + 2 * batch * features,
        "losses": 3 * batch * outputs,
        "advance": 0,
    }
    if name in elements:
        return _streamed(4 * elements[name])
    if name == "columns":
        n, k = map(int, numbers[:2])
        m = plan.program.outputs
        return _streamed(4 * (m * k + n * k + launch.blocks[1] * m * n), 2 * m * n * k)
    if name == "backward":
        return _streamed(4 * 3 * int(numbers[1]) * int(numbers[2]))
    if name == "update":
        states = len(formulas.RULES[plan.structure.rule].states)
        return _streamed(4 * (2 + 2 * states + plan.schedule.parts) * plan.program.size)
    if name == "rows":  # of the small output layer, whose weights every multiprocessor reads
        m, k = map(int, numbers[:2])
        return _streamed(4 * (m * k + PROCESSORS * outputs * k + m * outputs), 2 * m * outputs * k)
    if name == "combine":  # the parts of a product that is not wgmma's, beside those that are
        m, n, parts = map(int, numbers[:3])
        return _streamed(4 * m * n * (parts + 1), m * n * parts)
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
        seconds = max(full / (MMA * PEAK[precision]), moved) + 2 * L2_LATENCY / CLOCK
        return Node(flops, far, near, 2 * iterations, None, seconds)
    ratio = ratios()[INNER[tile]]
    each = depth * tile * tile * ratio / launch.threads  # instructions of a thread for a panel
    issue = each * (launch.threads // 32) / SCHEDULERS  # of a block, for one of the schedulers
    alone = each + L2_LATENCY + BLOCK_BARRIER
    cycles = iterations * max(waves * issue, -(-waves // 2) * alone) + 2 * L2_LATENCY
    return Node(flops, far, near, iterations + 2, ratio, max(cycles / CLOCK, moved))


def _by_wgmma(launch, precision):
    """A product of twins: a block a multiprocessor, whose panels come while it multiplies, and which then finishes."""
    m, n, _, *_, part, between = (int(each) for each in launch.arguments[:11])
    (down, across, parts), tile = launch.blocks, hopper.DOWN * hopper.RIGHT
    blocks, panel = down * across * parts, 2 * tile * hopper.terms_of(precision)
    copied, written = 4 * hopper.STAGE * part * blocks, 4 * m * n * parts
    # two groups of threads read the panel of B each, and a half of that of A; a finished tile passes through once
    near = (copied + 4 * 5 * hopper.PANEL * part * blocks) + 2 * 4 * tile * blocks
    waves, finish = -(-blocks // PROCESSORS), 4 * tile * (1 / NEAR + 2 / SHARED) + 2 * L2_LATENCY
    seconds = max(waves * part * panel * PROCESSORS / (WGMMA * PEAK[precision]), copied / BULK) + waves * finish / CLOCK
    return Node(panel * part * blocks, copied + written, near, 3, None, seconds)


def of_launches(launches, plan, precision="float32", seconds=0.0):
    """A row of launches; `seconds` of each beside its work, but of those that begin with the next one."""
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
        sum(node.seconds for node in nodes) + seconds * sum(not launch.beside for launch in launches),
    )


def launches_of(plan):
    """What the graph of a step replays."""
    names = "table", "reals", "parameters", "workspace", "X", "Y", "gradient", "counter", *driver.MOMENTS
    for place, name in enumerate(names):
        plan.memory[name] = Nowhere((1 + place) << 40)
    plan.device_program()
    launches = []
    with on_the_card():
        graph.queue_step(plan, launches)
    return launches


class Nowhere(NamedTuple):
    """A device array that has no memory, at an aligned address."""

    address: int

    @property
    def __array_interface__(self):
        return {"data": (self.address, False)}


def of_step(work, precision="float32"):
    """The row of a workload."""
    plan = plan_of(work, precision)
    if plan.schedule.loop != "graph":
        return of_loop(plan)
    return of_launches(launches_of(plan), plan, precision, 1e-6 * race()["launches"][NODE] + START)


def of_product(n, precision):
    """The row of a product of square matrices, called by itself in the time of the card."""
    launches, sides = [], [Side(place << 40, n, 1) for place in (1, 2, 3)]
    with on_the_card():
        work = (4 << 40, work_size(n, n, n, precision)) if precision != "float32" else (0, 0)
        multiply(np.float32, launches, (n, n, n), *sides, work=work, precision=precision)
    return of_launches(launches, None, precision)


def measured(work, loop, precision="float32"):
    """(microseconds of a loop in the race, those of torch's graph), None where there are none."""
    trained, loops = (
        next(
            (row["libraries"] for row in race()[part] if (row["name"], row["precision"]) == (work.name, precision)), {}
        )
        for part in ("training", "loops")
    )
    if "loops" in race().get("earlier", {}):
        loops = {}
    own = loops or {f"fastnn, {loop}": trained.get("fastnn", {})}
    return own.get(f"fastnn, {loop}", {}).get("us"), trained.get("torch graph", {}).get("us")


def line(name, row, goal, own):
    """A row of the page."""
    us = 1e6 * row.seconds
    made = WRITTEN["wgmma" if name.startswith(tuple(PEAK)) or name.endswith(tuple(PEAK)) else row.loop]
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
        for precision in PEAK if key in ROUNDED else ():
            row = of_step(work, precision)
            own, like_torch = measured(work, row.loop, precision)
            found.append(line(f"{work.name}, {precision}", row, like_torch, own))
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
same loop, with what a fit does once, in rounds of about 1 s, or an earlier one of that day for products. Where \
*changed* says yes, the loop or its products have been written anew since, and the ratio says little. Where it says \
no, the ratio says by how much the card is slower than the model. Of the loops of one launch \
`asv_bench/cuda_cycles.py` says more, which runs their machine code.
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
