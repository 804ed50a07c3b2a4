"""Multiprocessors of an H100 that run the machine code of a kernel, and count the cycles that it takes.

A multiprocessor has four schedulers, each with the warps whose number leaves the same rest by four. In each cycle a
scheduler begins one instruction of a warp that may go on: the oldest that has waited the cycles which the assembler
wrote beside the instruction before, whose awaited counters are down, and whose unit is free. What takes longer than
that is in `Cycles`. Instructions themselves are there at once: nothing waits for a cache of instructions. So times come
out too short, by a fifth for the loops of one block and of shards on an H100 (see README).
"""

import heapq
from dataclasses import dataclass, field

import numpy as np
from sass import LANES, MEMORY_FROM, PARAMETERS_AT, TRUE, WORD, listing

SHARED_BYTES = 228 << 10  # of a multiprocessor


class Cycles:
    """Of an H100: shared memory and L2 as in arXiv 2402.13499 (Luo et al.), 29 and 263 from address to number.

    All others are estimates, with which the loops that the race measured on a card come out as README says.
    """

    # until what was read is there, beyond its wavefronts
    LATENCY = {"shared": 28, "near": 38, "far": 272, "shuffle": 26, "store": 6, "atomic": 402}
    SPECIAL, CONSTANT, FENCE, BARRIER = 24, 32, 400, 20
    JUMP = 8  # beyond what the assembler wrote beside a jump that is taken
    OPERANDS = 12  # until an access has read its operands
    # that a unit of a scheduler is taken by an instruction of a warp; memory's is of the whole multiprocessor
    UNIT = {"alu": 2, "light": 1, "heavy": 2, "special": 8, "uniform": 2, "branch": 2, "memory": 2}
    QUEUE = 16  # wavefronts that may wait for the memory's unit


@dataclass
class Issue:
    """An instruction as a warp began it: when, and for how many cycles after the last one."""

    cycle: int
    waited: int
    instruction: object
    lanes: int


class Multiprocessor:
    def __init__(self):
        self.free, self.units, self.memory, self.lines = [0] * 4, [{} for _ in range(4)], 0, set()


class Block:
    """A block: its shared memory, and its warps, of which those that wait at a barrier."""

    def __init__(self, index, multiprocessor):
        self.index, self.multiprocessor, self.warps, self.waiting = index, multiprocessor, [], []
        self.shared = np.zeros(SHARED_BYTES // 4, WORD)  # what the code names itself comes first, then the launch's

    def cached(self, addresses, past):
        """Which memory an access finds its numbers in: all of L1 is kept until a fence lets go of it."""
        lines = set((addresses >> 7).tolist())
        known = lines <= self.multiprocessor.lines and not past
        if not past:
            self.multiprocessor.lines |= lines
        return "near" if known else "far"


class Warp:
    """Registers, predicates, and the parts of a warp: of those the current one runs, up to where it has to wait."""

    def __init__(self, block, number, threads, constants, memory):
        self.block, self.number, self.constants, self.memory = block, number, constants, memory
        self.registers, self.uniform = np.zeros((256, LANES), WORD), np.zeros((256, LANES), WORD)
        self.predicates, self.uniform_predicates = np.zeros((8, LANES), bool), np.zeros((8, LANES), bool)
        self.predicates[TRUE] = self.uniform_predicates[TRUE] = True
        self.thread = np.arange(32 * number, 32 * number + LANES, dtype=WORD)
        self.alive = self.thread < threads
        self.active, self.at = self.alive.copy(), 0
        self.parts, self.met, self.sets = [], {}, {}  # that can go on; that wait, by for what; lanes to wait for
        self.ready, self.last, self.counters, self.copied, self.held = 0, 0, [0] * 8, 0, False

    def special(self, name):
        known = {"SR_TID.X": self.thread, "SR_CTAID.X": self.block.index, "SR_LANEID": np.arange(LANES)}
        return np.broadcast_to(known.get(name, 0), LANES)


@dataclass
class Machine:
    """Runs a kernel; `issues`: of the first block, what each warp began, if they are `kept`."""

    cubin: str
    kept: bool = True
    issues: list = field(default_factory=list)

    def __post_init__(self):
        self.code = listing(self.cubin)
        self.place = {instruction.at: n for n, instruction in enumerate(self.code)}

    def launch(self, blocks, threads, parameters, multiprocessors=132):
        """Run blocks of threads, all of them resident, with the bytes of the parameters; gives the cycles it took."""
        constants = np.zeros((PARAMETERS_AT + len(parameters) + 7) // 4 + 2, WORD)
        constants[:6] = threads, 1, 1, blocks, 1, 1
        constants.view(np.uint8)[PARAMETERS_AT : PARAMETERS_AT + len(parameters)] = np.frombuffer(parameters, np.uint8)
        memory, chips = _memory(), [Multiprocessor() for _ in range(min(blocks, multiprocessors))]
        self.queue, self.order = [], 0
        for index in range(blocks):
            block = Block(index, chips[index % len(chips)])
            block.warps = [Warp(block, n, threads, constants, memory) for n in range(-(-threads // LANES))]
            for warp in block.warps:
                self._queue(warp, 0)
        self.issues, end = [[] for _ in range(-(-threads // LANES))], 0
        while self.queue:
            cycle, _, warp = heapq.heappop(self.queue)
            soonest = self._soonest(warp)
            if soonest > cycle:
                self._queue(warp, soonest)
            else:
                self._begin(warp, cycle)
                end = max(end, cycle)
                if warp.active is not None and not warp.held:
                    self._queue(warp, warp.ready)
        return end

    def _queue(self, warp, cycle):
        self.order += 1
        heapq.heappush(self.queue, (cycle, (warp.block.index, warp.number, self.order), warp))

    def _soonest(self, warp):
        """The first cycle in which the warp's next instruction may begin."""
        instruction, chip, scheduler = self.code[warp.at], warp.block.multiprocessor, warp.number % 4
        soonest = max(warp.ready, chip.free[scheduler], chip.units[scheduler].get(instruction.unit, 0))
        if instruction.unit == "memory":
            soonest = max(soonest, chip.memory - Cycles.QUEUE)
        return max([soonest, *(warp.counters[k] for k in instruction.awaits)])

    def _begin(self, warp, cycle):
        instruction, chip, scheduler = self.code[warp.at], warp.block.multiprocessor, warp.number % 4
        if self.kept and warp.block.index == 0:
            self.issues[warp.number].append(Issue(cycle, cycle - warp.last, instruction, int(warp.active.sum())))
        chip.free[scheduler] = cycle + 1
        chip.units[scheduler][instruction.unit] = cycle + Cycles.UNIT[instruction.unit]
        warp.last, warp.ready, warp.at = cycle, cycle + max(instruction.stall, 1), warp.at + 1
        lanes, latency = warp.active, 0
        if instruction.guard:
            lanes = lanes & instruction.guard(warp)
        if instruction.kind == "":
            if lanes.any():
                instruction.act(warp, lanes)
            latency = {"special": Cycles.SPECIAL, "memory": Cycles.CONSTANT}.get(instruction.unit, 0)
        elif instruction.kind == "memory":
            if lanes.any():
                where, wavefronts = instruction.act(warp, lanes)
                start = max(chip.memory, cycle + 4)
                chip.memory = start + wavefronts
                latency = start - cycle + wavefronts - 1 + Cycles.LATENCY[where]
                if instruction.name == "LDGSTS":
                    warp.copied = max(warp.copied, cycle + latency)
        else:
            self._control(warp, instruction, lanes, cycle)
        if instruction.raises < 6:
            warp.counters[instruction.raises] = max(warp.counters[instruction.raises], cycle + latency)
        if instruction.reads < 6:
            read = cycle + (Cycles.OPERANDS if instruction.kind == "memory" else Cycles.OPERANDS // 2)
            warp.counters[instruction.reads] = max(warp.counters[instruction.reads], read)

    def _control(self, warp, instruction, lanes, cycle):
        kind, rest = instruction.kind, warp.active & ~lanes
        if kind == "jump":
            if instruction.act:
                lanes = lanes & instruction.act(warp)
                rest = warp.active & ~lanes
            if lanes.any():
                if rest.any():
                    warp.parts.append((warp.at, rest))
                warp.active, warp.at, warp.ready = lanes, instruction.target, warp.ready + Cycles.JUMP
        elif kind in ("call", "return"):
            back = kind == "return"
            warp.at = self.place[int(instruction.act(warp)[np.argmax(lanes)])] if back else instruction.target
            warp.ready += Cycles.JUMP
        elif kind == "set":
            warp.sets[instruction.act] = warp.active.copy()
        elif kind == "break":
            warp.sets[instruction.act] = warp.sets[instruction.act] & ~lanes
            self._wake(warp)
        elif kind == "sync":
            self._meet(warp, ("set", instruction.act))
        elif kind == "warp":
            self._meet(warp, ("warp", warp.at))
        elif kind == "barrier":
            self._meet(warp, ("barrier", warp.at))
            if warp.active is not None and (warp.active == warp.alive).all():
                warp.held = True
                warp.block.waiting.append(warp)
                self._pass(warp.block, cycle, warp)
        elif kind == "exit":
            warp.alive = warp.alive & ~lanes
            warp.active = rest if rest.any() else None
            self._wake(warp)
            if warp.active is None and not self._go_on(warp):
                self._pass(warp.block, cycle)
        elif kind == "copies":
            warp.ready = max(warp.ready, warp.copied)
        elif kind == "fence":
            warp.ready = max(warp.ready, cycle + Cycles.FENCE)
        elif kind == "forget":
            warp.block.multiprocessor.lines.clear()
        elif kind == "apart" and instruction.name == "BRA":
            if not (warp.active == warp.alive).all():
                raise NotImplementedError("lanes of a warp must be together where they exchange numbers")
        elif kind != "nothing":
            raise NotImplementedError(f"instruction must be one that the loops use; got {instruction.text!r}")

    def _wanted(self, warp, key):
        return (warp.sets[key[1]] if key[0] == "set" else warp.alive) & warp.alive

    def _meet(self, warp, key):
        """The current part waits for the others of a set, or of the warp, and goes on with them."""
        _, lanes = warp.met.get(key, (warp.at, np.zeros(LANES, bool)))
        warp.met[key], warp.active = (warp.at, lanes | warp.active), None
        self._wake(warp)
        if warp.active is None and not self._go_on(warp):
            raise RuntimeError("lanes must come to where others of their warp wait; some never do")

    def _wake(self, warp):
        """Parts that have met all they waited for can go on."""
        for key, (place, lanes) in list(warp.met.items()):
            if not (self._wanted(warp, key) & ~lanes).any():
                del warp.met[key]
                lanes = lanes & warp.alive
                if lanes.any():
                    if warp.active is None:
                        warp.at, warp.active = place, lanes
                    else:
                        warp.parts.append((place, lanes))

    def _go_on(self, warp):
        if warp.parts:
            warp.at, warp.active = warp.parts.pop()
        return warp.active is not None

    def _pass(self, block, cycle, last=None):
        """All warps of a block go on, if all that have not ended wait at the barrier, `last` among them."""
        if block.waiting and len(block.waiting) == sum(bool(warp.alive.any()) for warp in block.warps):
            for warp in block.waiting:
                warp.held, warp.ready = False, max(warp.ready, cycle + Cycles.BARRIER)
                if warp is not last:
                    self._queue(warp, warp.ready)
            block.waiting = []


def _memory():
    """The memory of this process as words, from MEMORY_FROM on: that of the device, as the stand-in's driver has it."""

    class All:
        __array_interface__ = dict(shape=(1 << 45,), typestr="<u4", data=(MEMORY_FROM, False), version=3)

    return np.asarray(All())
