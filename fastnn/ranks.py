"""The processes of an MPI communicator: which shards each holds, errors that end all of them, memory that they share.

Shards are numbered globally, and each rank holds consecutive ones. What is summed over the shards is summed in one
binary tree over their numbers, whoever holds them, so that bits do not depend on the number of ranks.
"""

import contextlib
import operator
import pickle
import signal
import sys
import threading
import traceback
from functools import cached_property

import numpy as np

from . import backends
from .errors import described, must_be, quoted

_LINE = 64  # bytes; everything that ranks share starts on a cache line of its own


def communication():
    """The module MPI of mpi4py; importing it starts MPI."""
    try:
        from mpi4py import MPI
    except ImportError:
        raise ImportError(f"fastnn.mpi needs mpi4py and an MPI: {backends.pip_install('mpi')}") from None
    except RuntimeError as error:  # it found no library to load
        raise ImportError(f"fastnn.mpi needs an MPI, such as Open MPI or MPICH: {error}") from None
    return MPI


def tree_sum(parts, add=operator.add):
    """The sum of what the shards have, in the fixed tree.

    Parameters
    ----------
    parts : dict
        From (first, past the last) of shards, each a node of the tree, to their sum; together they cover all.
    add : callable
        Gives the sum of two.

    Returns
    -------
    object
        As `add` gives it.
    """

    def of(low, high):
        if (low, high) in parts:
            return parts[low, high]
        middle = (low + high) // 2
        return add(of(low, middle), of(middle, high))

    return of(0, max(high for _, high in parts))


def nodes(shards, held):
    """The largest nodes of the tree over `shards` that are made of `held` shards, a range, alone."""
    found = []

    def visit(low, high):
        if held.start <= low and high <= held.stop:
            found.append((low, high))
        elif max(low, held.start) < min(high, held.stop):
            visit(low, (low + high) // 2)
            visit((low + high) // 2, high)

    visit(0, shards)
    return found


class Ranks:
    """The ranks of a communicator, and this one.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        Duplicated, so that nothing meets the messages of others; `close` frees the duplicate.

    Attributes
    ----------
    rank, size : int
        Number of this one, and how many there are.
    shards : int
        A power of two, at least the number of ranks; set by `cut`.
    held : range
        Shards of this rank.
    raised : BaseException or None
        What all ranks agreed to raise.
    interrupted : bool
        Whether Ctrl-C has come.
    """

    def __init__(self, comm):
        self.comm, self.raised, self.interrupted = comm.Dup(), None, False
        self.rank, self.size = comm.rank, comm.size

    def cut(self, shards):
        """Name the number of shards."""
        self.shards = shards
        self.held = self.held_by(self.rank)

    def close(self):
        """Free the communicator."""
        self.comm.Free()

    def held_by(self, rank):
        """The shards of a rank."""
        return range(*backends.limits(self.shards, rank, self.size))

    @cached_property
    def machine_ranks(self):
        """How many of the ranks run on this machine."""
        on_machine = self.comm.Split_type(communication().COMM_TYPE_SHARED)
        count = on_machine.size
        on_machine.Free()
        return count

    def agree(self, function):
        """What a function without arguments gives; where it fails on one rank, all fail.

        Messages of its own it may send by methods of this class alone.

        Parameters
        ----------
        function : callable
            Called on each rank.

        Returns
        -------
        object
            Its result on this rank.
        """
        result, failure = None, None
        try:
            result = function()
        except BaseException as error:
            if error is self.raised:  # all have it
                raise
            failure = error
        self.end_if_failed(failure)
        return result

    def end_if_failed(self, failure):
        """Raise, on all ranks, what the first one of them that failed has to raise; `failure`: of this one, or None."""
        if failure is None and self.interrupted:
            failure = KeyboardInterrupt()
        failures = self.comm.allgather(None if failure is None else _portable(failure))
        first = next((rank for rank, each in enumerate(failures) if each is not None), None)
        if first is None:
            return
        if failure is None or _told(failure) != _told(failures[first]):
            failure = failures[first]
            failure.add_note(f"raised on rank {first} of {self.size}")
        self.raised = failure
        raise failure

    def must_be_same(self, settings):
        """Refuse settings, a dict from names to values, that are not the same on all ranks."""
        everywhere = self.comm.allgather(settings)
        for name, value in everywhere[0].items():
            for rank, other in enumerate(everywhere):
                if other[name] != value:
                    given = f"{quoted(value)} on rank 0 and {quoted(other[name])} on rank {rank}"
                    self.end_if_failed(must_be(name, "the same on all ranks", described(given)))

    def of_rank_0(self, value):
        """A value of rank 0, or on the others a copy of it."""
        sent = self.comm.bcast(self.agree(lambda: pickle.dumps(value) if self.rank == 0 else None))
        return self.agree(lambda: value if self.rank == 0 else pickle.loads(sent))

    def total(self, function, add):
        """The sum over all shards, in the tree, of `function(shard)`, which each rank calls for its own."""
        own = self.agree(lambda: [function(shard) for shard in self.held])
        everywhere = [part for parts in self.comm.allgather(own) for part in parts]
        return tree_sum({(shard, shard + 1): part for shard, part in enumerate(everywhere)}, add)

    @contextlib.contextmanager
    def or_abort(self):
        """End all ranks at an error that the others know nothing of: they would wait for this one for ever."""
        try:
            yield
        except BaseException as error:
            if self.size > 1 and error is not self.raised:
                traceback.print_exc()
                print(f"rank {self.rank} of {self.size} ends all: the others wait for it", file=sys.stderr, flush=True)
                self.comm.Abort(1)
            raise

    @contextlib.contextmanager
    def interrupts_noted(self):
        """Ctrl-C is noted, to be raised on all ranks at the next agreement."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler:  # somebody else's, or ignored
            yield
            return
        signal.signal(signal.SIGINT, self._note_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _note_interrupt(self, number, frame):
        self.interrupted = True


def _portable(error):
    """An exception that other processes can have."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # whatever a class of the user's own raises
        return RuntimeError(f"{type(error).__name__}: {error}")


def _told(error):
    return type(error).__name__, str(error)


class Exchange:
    """What ranks have in common while they train: the parameters, the gradients of their shards, and notes.

    Parameters
    ----------
    ranks : Ranks
        Who they are.
    program : Program
        The net.
    dtype : dtype
        Of parameters and gradients.
    notes : int
        How many float64 numbers ranks tell each other, each number written by one rank.

    Attributes
    ----------
    theta : array (p,)
        The parameters, of which each rank updates those of `Program.share`.
    sums : dict
        From each of this rank's `nodes` to the array (p,) that receives the gradient of its shards.
    notes : array (notes,), float64
        To be read after `tell`.
    written : array (notes,), float64
        To be written to, each rank at its own places.
    """

    def __init__(self, ranks, program, dtype, notes):
        self.ranks, self.program = ranks, program
        self.nodes = [nodes(ranks.shards, ranks.held_by(rank)) for rank in range(ranks.size)]
        self.shares = [program.share(rank, ranks.size) for rank in range(ranks.size)]
        self.own_share = self.shares[ranks.rank]
        self._allocate(np.dtype(dtype), notes)

    def gather_shares(self, array):
        """Let every rank have the whole of an array of which each has its share of the parameters."""
        sent = np.concatenate([array[part] for part in self.own_share])
        counts = [sum(part.stop - part.start for part in share) for share in self.shares]
        received, at = np.empty(sum(counts), array.dtype), 0
        self.ranks.comm.Allgatherv(sent, (received, counts))
        for part in (part for share in self.shares for part in share):
            length = part.stop - part.start
            array[part] = received[at : at + length]
            at += length


class SharedMemory(Exchange):
    """Between ranks on one machine: a window of memory that all of them see, so that they need barriers alone."""

    def _allocate(self, dtype, notes):
        ranks, size, itemsize = self.ranks, self.program.size, dtype.itemsize
        lengths = [len(each) * size * itemsize for each in self.nodes]
        lengths[0] += size * itemsize + 8 * notes  # sizes of programs are multiples of a line
        own = lengths[ranks.rank] + _LINE
        self._window = communication().Win.Allocate_shared(own, 1, comm=ranks.comm)
        self._window.Lock_all()
        self._sums = {}
        for rank, its_nodes in enumerate(self.nodes):
            raw = np.frombuffer(self._window.Shared_query(rank)[0], np.uint8)
            raw = raw[-raw.ctypes.data % _LINE :]
            for i, node in enumerate(its_nodes):
                self._sums[node] = raw[i * size * itemsize :][: size * itemsize].view(dtype)
            if rank == 0:
                raw = raw[len(its_nodes) * size * itemsize :]
                self.theta = raw[: size * itemsize].view(dtype)
                self.notes = self.written = raw[size * itemsize :][: 8 * notes].view(np.float64)
        self.sums = {node: self._sums[node] for node in self.nodes[ranks.rank]}
        for own in [*self.sums.values(), *([self.notes] if ranks.rank == 0 else [])]:
            own.fill(0.0)  # an MPI may give memory that was used before
        self.tell()

    def tell(self):
        """Wait until all have written their notes and gradients."""
        self._window.Sync()
        self.ranks.comm.Barrier()
        self._window.Sync()

    publish = tell  # what others have updated is there

    def own_parts(self):
        """For each slice of this rank's share of the parameters, its gradient at the nodes of all ranks."""
        return [{node: array[part] for node, array in self._sums.items()} for part in self.own_share]

    def put(self, values):
        """Set all parameters, on all ranks, to those of rank 0."""
        if self.ranks.rank == 0:
            self.theta[:] = values
        self.tell()

    def close(self):
        """Free the memory."""
        self.theta = self.notes = self.written = self.sums = self._sums = None
        self._window.Unlock_all()
        self._window.Free()


class Messages(Exchange):
    """Between ranks on several machines: each sends the others their share of its gradients, then its parameters."""

    def _allocate(self, dtype, notes):
        size = self.program.size
        self.theta, self.notes, self.written = np.empty(size, dtype), np.zeros(notes), np.zeros(notes)
        self.sums = {node: np.zeros(size, dtype) for node in self.nodes[self.ranks.rank]}

    def tell(self):
        """Let all know the notes of all; a note is written by one rank, and is 0 on the others."""
        self.ranks.comm.Allreduce(self.written, self.notes)

    def publish(self):
        """Let all know the parameters that each has updated."""
        self.gather_shares(self.theta)

    def own_parts(self):
        """For each slice of this rank's share of the parameters, its gradient at the nodes of all ranks."""
        sent = np.concatenate([node[part] for share in self.shares for node in self.sums.values() for part in share])
        lengths = [[part.stop - part.start for part in share] for share in self.shares]
        own = sum(lengths[self.ranks.rank])
        received = np.empty(own * sum(map(len, self.nodes)), sent.dtype)
        counts = [len(self.sums) * sum(each) for each in lengths], [len(each) * own for each in self.nodes]
        self.ranks.comm.Alltoallv((sent, counts[0]), (received, counts[1]))
        found, at = [{} for _ in self.own_share], 0
        for node in (node for each in self.nodes for node in each):
            for parts, length in zip(found, lengths[self.ranks.rank], strict=True):
                parts[node] = received[at : at + length]
                at += length
        return found

    def put(self, values):
        """Set all parameters, on all ranks, to those of rank 0."""
        self.theta[:] = values
        self.ranks.comm.Bcast(self.theta)

    def close(self):
        """Nothing to free."""


def exchange(ranks, program, dtype, notes):
    """The Exchange that suits where the ranks run; arguments are those of `Exchange`."""
    kind = SharedMemory if ranks.machine_ranks == ranks.size else Messages
    return kind(ranks, program, dtype, notes)
