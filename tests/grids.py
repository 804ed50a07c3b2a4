"""Kernels in the simulator, with all blocks of a launch at once, and under watch.

The simulator of numba-cuda runs one block after another, so that blocks which wait for one another wait for ever, and
starts a thread of the host for each of the device. Here the threads of all blocks are coroutines of one thread, which
is sooner done, and whoever touches an element of memory is written down: between two meetings an element that one
thread writes is no other's business, whatever the order in which they happened to run. Where blocks never meet, what
one of them writes is no other's business in the whole launch, but for the last that arrives.
"""

import collections
import random
import threading

import greenlet
import numpy as np
from numba.cuda.simulator import kernel as simulator

from fastnn.kernels.cuda import graph, plain, step

MANY = object()  # readers


class _Running(greenlet.greenlet):
    """A thread of the device, which runs until it waits: then another one does, in the same thread of the host."""

    def __init__(self, thread, ready):
        super().__init__(thread.run)
        self.thread, self.ready = thread, ready

    def let_others_go_on(self):
        """Go on after all that can."""
        self.ready.append(self)
        self.parent.switch()


class _Thread(simulator.BlockThread):
    """A thread that counts its meetings, and how often it has come to one of all blocks, and has passed it."""

    meetings = arrivals = passed = 0

    def syncthreads(self):
        self._manager.meeting.exchange(self.thread_id)
        self.meetings += 1


class _Meeting:
    """As `plain.Meeting`, for threads that run one at a time."""

    def __init__(self, threads):
        self.threads, self.given, self.waiting, self.all = threads, {}, [], None

    def exchange(self, place, value=None):
        self.given[place] = value
        here = greenlet.getcurrent()
        if len(self.given) == self.threads:
            # all have read what was exchanged before: they are here
            self.all, self.given = self.given, {}
            here.ready.extend(self.waiting)
            self.waiting.clear()
        else:
            self.waiting.append(here)
            here.parent.switch()
        return self.all


class _Grid:
    """Threads that meet: those of one launch, or of one block."""

    def __init__(self):
        self.threads, self.seen = [], {}

    def touch(self, thread, address, writes):
        """Fail if another thread wrote there, or reads what this one writes, since they last met."""
        accesses = self.seen.setdefault(address, {})
        for (other, wrote), (meetings, arrivals) in accesses.items():
            if other is thread or not (wrote or writes):
                continue
            same = other._manager is thread._manager
            if meetings >= thread.meetings if same else arrivals >= thread.passed:
                there = [(tuple(each.blockIdx), tuple(each.threadIdx)) for each in (thread, other)]
                raise AssertionError(f"a race: {there} after {thread.meetings} meetings, writes={writes}")
        if writes:
            accesses.clear()  # whoever was there has met this thread
        accesses[thread, writes] = thread.meetings, thread.arrivals

    def run(self):
        """Run all threads to their end, which the first that fails brings."""
        random.Random(len(self.threads)).shuffle(self.threads)  # none may rest on being the first
        ready = collections.deque()
        running = [_Running(thread, ready) for thread in self.threads]
        ready.extend(running)
        try:
            while ready:
                one = ready.popleft()
                one.switch()
                if one.thread.exception:
                    error, trace = one.thread.exception
                    raise error.with_traceback(trace)
            if any(running):  # a greenlet that has ended is false
                raise AssertionError("threads wait for others that have ended")
        finally:
            for one in running:
                one.throw()


class _Launch:
    """Blocks that never meet: who wrote an element of global memory, and who read it."""

    def __init__(self):
        self.seen, self.gone = {}, set()

    def arrive(self, block, last):
        """A block has arrived, and has no more to do; the last one may read and write what all others did."""
        if last:
            self.seen.clear()
        else:
            self.gone.add(block)

    def touch(self, block, address, writes):
        """Fail if another block wrote there, or reads what this one writes."""
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
        self.meeting = _Meeting(int(np.prod(block_dim)))

    def run(self, grid_point, *args):
        if not any(grid_point):
            _Block.launch = _Launch()
        if not any(grid_point) or not self.meet:
            _Block.grid = _Grid()
        self.grid, self.launch = _Block.grid, _Block.launch
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

    of_the_host, arrive, pass_by = threading.current_thread, step.arrive_at, step.pass_by

    def current_thread():
        return getattr(greenlet.getcurrent(), "thread", None) or of_the_host()

    def arrived_at(counter):
        arrive(counter)
        threading.current_thread().arrivals += 1

    def passed(counter, turn):
        turn = pass_by(counter, turn)
        threading.current_thread().passed += 1
        return turn

    arrived = graph.arrived_last

    def told(counter):
        last, thread = arrived(counter), threading.current_thread()
        thread._manager.launch.arrive(tuple(thread.blockIdx), last)
        return last

    monkeypatch.setattr(step, "arrive_at", arrived_at)
    monkeypatch.setattr(step, "pass_by", passed)
    monkeypatch.setattr(graph, "arrived_last", told)
    monkeypatch.setattr(_Block, "meet", meet)
    monkeypatch.setattr(simulator, "BlockManager", _Block)
    monkeypatch.setattr(plain, "Pointer", Watched)
    monkeypatch.setattr(plain, "Meeting", _Meeting)
    monkeypatch.setattr(plain, "let_others_go_on", lambda: greenlet.getcurrent().let_others_go_on())
    monkeypatch.setattr(threading, "current_thread", current_thread)
