"""Rows that stand in parts on several ranks, dealt to shards: row number i of all goes to shard i modulo their number.

So a batch of consecutive rows has the same number in each shard, to one, and in their old order the batches of a fit
are those of one process. Rows move once, to the rank that holds their shard.
"""

import operator
from dataclasses import replace

import numpy as np

from . import backends


class Dealt:
    """The rows of the shards of this rank.

    Parameters
    ----------
    ranks : Ranks
        Who has the others.
    data : Data
        The part that this rank was given; all of its rows count.

    Attributes
    ----------
    data : Data
        The rows of this rank's shards, in their global order.
    rows : int
        Rows of all shards.
    """

    def __init__(self, ranks, data):
        self.ranks = ranks
        self._counts = ranks.comm.allgather(len(data))
        self.rows = sum(self._counts)
        weights = None if data.weights is None else self.dealt(data.weights)
        self.data = replace(data, X=self.dealt(data.X), y=self.dealt(data.y), weights=weights)

    def __len__(self):
        return self.rows

    def size(self, shard):
        """Rows of a shard."""
        return self.before(self.rows, shard)

    def before(self, row, shard):
        """How many of the rows before number `row` are those of a shard."""
        return max(0, -((shard - row) // self.ranks.shards))

    def places(self, shard):
        """Where the rows of a shard of this rank stand in `data`, in their order: array (r,) of int64."""
        held = self.ranks.held
        return np.arange(self.size(shard), dtype=np.int64) * len(held) + (shard - held.start)

    def chosen(self, shard):
        """The Data of a shard of this rank."""
        return replace(self.data, rows=self.places(shard))

    def total(self, function, add=operator.add):
        """The sum over all rows of what `function(places)` gives for those of one shard, on all ranks.

        Parameters
        ----------
        function : callable
            Of places in `data`, an array (r,) of int64 that may be empty.
        add : callable
            Gives the sum of two.

        Returns
        -------
        object
            As `add` gives it.
        """
        return self.ranks.total(lambda shard: function(self.places(shard)), add)

    def dealt(self, array):
        """The rows of an array (rows of the part, ...) that belong to this rank's shards; those of others are sent."""
        ranks = self.ranks
        if ranks.size == 1:
            return array
        starts = np.cumsum([0, *self._counts])
        owners = np.repeat(np.arange(ranks.size), [len(ranks.held_by(rank)) for rank in range(ranks.size)])
        here = slice(starts[ranks.rank], starts[ranks.rank + 1])
        to = owners[np.arange(here.start, here.stop) % ranks.shards]
        sent = np.ascontiguousarray(array[np.argsort(to, kind="stable")])
        arriving = [
            sum(self.before(stop, shard) - self.before(start, shard) for shard in ranks.held)
            for start, stop in zip(starts, starts[1:], strict=False)
        ]
        received = np.empty((sum(arriving), *array.shape[1:]), array.dtype)
        kind = _row_type(sent)
        try:
            ranks.comm.Alltoallv([sent, np.bincount(to, minlength=ranks.size), kind], [received, arriving, kind])
        finally:
            kind.Free()
        return received


def _row_type(array):
    """An MPI datatype of one row: counts of rows stay small where counts of bytes would not."""
    from .ranks import communication

    row = array.dtype.itemsize * int(np.prod(array.shape[1:]))
    return communication().BYTE.Create_contiguous(row).Commit()


class Orders:
    """In which order the shards of this rank visit their rows, and what the rows of each step weigh.

    Parameters
    ----------
    dealt : Dealt
        The rows.
    batch : int
        Rows of a step, of all shards.
    shuffle : bool
        In a new order each epoch.
    seed : int
        Of the order.
    """

    def __init__(self, dealt, batch, shuffle, seed):
        self._dealt, self._batch, self._shuffle, self._seed = dealt, batch, shuffle, seed
        self._epoch, self.steps = None, -(-dealt.rows // batch)
        self._places = {shard: dealt.places(shard) for shard in dealt.ranks.held}
        self._masses = np.array(
            [[end - first for first, end in self._limits_of_all(step)] for step in range(self.steps)]
        )

    def begin(self, epoch):
        """Draw the orders of an epoch; all ranks call it."""
        if epoch == self._epoch or self._epoch is not None and not self._shuffle:
            return
        self._epoch, self._order = epoch, dict(self._places)
        for shard, places in self._places.items() if self._shuffle else ():
            order = np.empty_like(places)
            # shard 0 has the order of a fit with this seed; a seed has 64 bits, of which the others change the highest
            backends.permutation(self._seed ^ shard << 48, epoch, order)
            self._order[shard] = places[order]
        if self._dealt.data.weights is not None:
            own = np.array([self._weights_of(shard) for shard in self._places]).reshape(-1, self.steps)
            self._masses = np.concatenate(self._dealt.ranks.comm.allgather(own)).T.copy()

    def rows(self, step, shard):
        """(first, places): the number in the shard's order of its first row in a step, and where its rows stand."""
        first, end = self._limits(step, shard)
        return first, self._order[shard][first:end]

    def masses(self, step):
        """The weight of each shard's rows in a step, array (shards,) of float64."""
        return self._masses[step]

    def _limits(self, step, shard):
        first, dealt = step * self._batch, self._dealt
        return dealt.before(first, shard), dealt.before(min(first + self._batch, dealt.rows), shard)

    def _limits_of_all(self, step):
        return (self._limits(step, shard) for shard in range(self._dealt.ranks.shards))

    def _weights_of(self, shard):
        """Weight of a shard's rows in each step."""
        weights = self._dealt.data.weights
        return [weights[self.rows(step, shard)[1]].sum(dtype=np.float64) for step in range(self.steps)]
