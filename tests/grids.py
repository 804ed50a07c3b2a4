"""Kernels in the simulator, with all blocks of a launch at once, and under watch.

The simulator of numba-cuda runs one block after another, so that blocks which wait for one another wait for ever. Here
every thread of every block is started, and whoever touches an element of memory is written down: between two meetings
an element that one thread writes is no other's business, whatever the order in which they happened to run. Where blocks
never meet, what one of them writes is no other's business in the whole launch, but for the last that arrives.
"""

import sys
import threading

import numpy as np
from numba.cuda.simulator import kernel as simulator

from fastnn.kernels.cuda import graph, plain, step

MANY = object()  # readers


class _Thread(simulator.BlockThread):
    """A thread that counts its meetings, those of a block and those of all, and whose failure ends all others."""

    meetings = barriers = 0

    def syncthreads(self):
        self._manager.meeting.exchange(self.thread_id)
        self.meetings += 1

    def run(self):
        super().run()
        if self.exception:
            self._manager.grid.give_up(self)


class _Grid:
    """Threads that meet: those of one launch, or of one block."""

    def __init__(self):
        self.blocks, self.threads, self.failed, self.seen = [], [], None, {}
        self.lock = threading.Lock()

    def give_up(self, thread):
        with self.lock:
            self.failed = self.failed or thread
        for other in self.threads:
            other.abort = True
        for block in self.blocks:
            block.meeting.abort()
            for warp in list(block.__dict__.get("warps", {}).values()):
                warp.abort()

    def touch(self, thread, address, writes):
        """Fail if another thread wrote there, or reads what this one writes, since they last met."""
        with self.lock:
            accesses = self.seen.setdefault(address, {})
            for (other, wrote), (meetings, barriers) in accesses.items():
                if other is thread or not (wrote or writes):
                    continue
                same = other._manager is thread._manager
                if meetings >= thread.meetings if same else barriers >= thread.barriers:
                    there = [(tuple(each.blockIdx), tuple(each.threadIdx)) for each in (thread, other)]
                    raise AssertionError(f"a race: {there} after {thread.meetings} meetings, writes={writes}")
            if writes:
                accesses.clear()  # whoever was there has met this thread
            accesses[thread, writes] = thread.meetings, thread.barriers

    def run(self):
        interval = sys.getswitchinterval()
        sys.setswitchinterval(plain.PATIENCE)  # else all that wait wake up every 5 ms to ask for the lock
        try:
            for thread in self.threads:
                thread.start()
            for thread in self.threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        if self.failed:
            error, trace = self.failed.exception
            raise error.with_traceback(trace)


class _Launch:
    """Blocks that never meet: who wrote an element of global memory, and who read it."""

    def __init__(self):
        self.seen, self.gone, self.lock = {}, set(), threading.Lock()

    def arrive(self, block, last):
        """A block has arrived, and has no more to do; the last one may read and write what all others did."""
        with self.lock:
            if last:
                self.seen.clear()
            else:
                self.gone.add(block)

    def touch(self, block, address, writes):
        """Fail if another block wrote there, or reads what this one writes."""
        with self.lock:
            if block in self.gone:
                raise AssertionError(f"a race of blocks: {block} has arrived, and goes on, writes={writes}")
            writer, reader = self.seen.get(address, (None, None))
            own = {None, block}
            if writer not in own or writes and reader not in own:
                raise AssertionError(f"a race of blocks: {block} and {writer} or {reader}, writes={writes}")
            if not writes:
                reader = block if reader in own else MANY
            self.seen[address] = block if writes else writer, reader


class _Block(simulator.BlockManager):
    """Gathers its threads; they start with those of the last block, or by themselves."""

    grid, launch, meet = None, None, True

    def __init__(self, function, grid_dim, block_dim, debug):
        super().__init__(function, grid_dim, block_dim, debug)
        self.meeting = plain.Meeting(int(np.prod(block_dim)))

    def run(self, grid_point, *args):
        if not any(grid_point):
            _Block.launch = _Launch()
        if not any(grid_point) or not self.meet:
            _Block.grid = _Grid()
        self.grid, self.launch = _Block.grid, _Block.launch
        self.grid.blocks.append(self)
        for place in np.ndindex(*self._block_dim):
            thread = _Thread(lambda: self._f(*args), self, grid_point, place, self._debug)
            self.grid.threads.append(thread)
        last = all(at == end - 1 for at, end in zip(grid_point, self._grid_dim, strict=True))
        if last or not self.meet:
            self.grid.run()


def together(monkeypatch, meet=True):
    """From now on all blocks of a launch run at once, and under watch.

    Where they never `meet`, each block runs and is watched by itself, and may share nothing that is written.
    """

    class Watched(plain.Pointer):
        """A pointer that tells who touches what; atomic operations pass it by."""

        __slots__ = ()

        def __add__(self, elements):
            return Watched(self.address + int(elements) * self.dtype.itemsize, self.dtype, self.owner)

        def _told(self, i, writes):
            thread, address = threading.current_thread(), self.address + int(i) * self.dtype.itemsize
            thread._manager.grid.touch(thread, address, writes)
            if not thread._manager.meet and self.owner is None:
                thread._manager.launch.touch(tuple(thread.blockIdx), address, writes)

        def __getitem__(self, i):
            self._told(i, False)
            return super().__getitem__(i)

        def __setitem__(self, i, value):
            self._told(i, True)
            super().__setitem__(i, value)

    barrier = step.grid_barrier

    def counted(counter, turn):
        turn = barrier(counter, turn)
        threading.current_thread().barriers += 1
        return turn

    arrived = graph.arrived_last

    def told(counter):
        last, thread = arrived(counter), threading.current_thread()
        thread._manager.launch.arrive(tuple(thread.blockIdx), last)
        return last

    monkeypatch.setattr(step, "grid_barrier", counted)
    monkeypatch.setattr(graph, "arrived_last", told)
    monkeypatch.setattr(_Block, "meet", meet)
    monkeypatch.setattr(simulator, "BlockManager", _Block)
    monkeypatch.setattr(plain, "Pointer", Watched)
