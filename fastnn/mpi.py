"""Training on many machines at once, by MPI (extra `mpi`).

Every process that `mpiexec` starts, a rank, calls `fit` with a part of the rows. All end with the same net, and the
same bits come out whatever the number of ranks and however the rows are spread over them.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from . import arrays, backends, callbacks, checkpoint, data, labels, progress, storage, unscaled, validation
from . import fit as fitting
from .arrays import AnyArray
from .callbacks import Callback
from .dealing import Dealt, Orders
from .errors import described, must_be, quoted
from .files import PathLike
from .history import History
from .models import Sequential
from .optimizers import Optimizer
from .rank_steps import RanksMeasures, RanksPlan, RanksRun
from .ranks import Ranks, communication

__all__ = ["fit"]

# Few, since each has a gradient of its own to write: four shards of 32 rows take one rank 4.8 ms a step, where a fit of
# 784-512-512-10 takes 3.3
SHARDS = 4
MOST_SHARDS = 1 << 12  # each has its own bits of the seed


def __dir__() -> list[str]:
    return __all__


def fit(
    net: Sequential,
    X: AnyArray,
    y: AnyArray,
    optimizer: Optimizer | str | None = None,
    epochs: int = fitting.EPOCHS,
    batch_size: int | Literal["auto"] | None = "auto",
    shuffle: bool = True,
    sample_weight: AnyArray | None = None,
    class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
    l2: float = 0.0,
    validation_data: Sequence[AnyArray] | None = None,
    callbacks: Sequence[Callback | Callable[[Sequential, History], Any]] = (),
    progress: bool = False,
    threads: int | None = None,
    resume: PathLike | None = None,
    shards: int = SHARDS,
    comm: Any = None,
) -> History:
    """Train a net on the rows that all ranks have, as `Sequential.fit` does on the rows of one process.

    All ranks call it, each with a part of the rows, in the order of their ranks; all settings must be the same. The
    rows are dealt to `shards`, row number i of all to shard i modulo `shards`, and each rank gets the rows of its
    shards, which are sent once. A step takes `batch_size` rows, the same number of each shard, or one more or less.
    Gradients of the shards are summed in a fixed binary tree: the bits of the net and of the losses depend on `shards`
    and on the rows, not on the ranks, on what part of the rows each has, or on threads. With shuffle=False the batches
    are those of `Sequential.fit`; with shuffle=True each shard has an order of its own.

    Parameters
    ----------
    net : Sequential
        Of the same layers and settings on all ranks; it begins as that of rank 0 is. With device "cpu" or "auto", and
        without Columns.
    X : array-like (m, n_features)
        Samples of this rank, at least one, on the host; in all, at least one for each shard. Ranks may have different
        dtypes and numbers of rows.
    y : array-like (m,) or (m, k)
        Their targets, as for `Sequential.fit`. The classes of text are those of all ranks.
    optimizer : Optimizer or str, optional
        As for `Sequential.fit`.
    epochs : int
        Passes over the rows.
    batch_size : int, "auto" or None
        Rows of a step, of all ranks together; None for all. "auto" follows the number of all rows.
    shuffle : bool
        Whether each shard visits its rows in a new order each epoch.
    sample_weight : array-like (m,), optional
        Weights of the rows of this rank; all ranks give some, or none does. Their sum over all ranks must be positive.
    class_weight : dict or "balanced", optional
        As for `Sequential.fit`, counted over all ranks.
    l2 : float
        As for `Sequential.fit`.
    validation_data : tuple, optional
        (X, y) or (X, y, sample_weight): a part on each rank. The loss of all is recorded after each epoch.
    callbacks : sequence of Callback or callable
        Those of rank 0 are called, on rank 0 alone; all ranks follow when they stop the fit, change the learning rate
        or the weights. A Checkpoint writes one file, with which any number of ranks goes on.
    progress : bool
        Whether rank 0 shows a bar.
    threads : int, optional
        Threads of this rank. By default the ranks of a machine share its cores.
    resume : path-like, optional
        As for `Sequential.fit`; rank 0 reads it. `shards` must be that of the fit that wrote it.
    shards : int
        A power of two, at least the number of ranks. A rank with more shards than another has more to do: take many
        for a number of ranks that is no power of two.
    comm : mpi4py.MPI.Intracomm, optional
        The ranks; by default all of the program.

    Returns
    -------
    History
        The same on all ranks, but for the times.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted, on any rank; all ranks then raise it, and rank 0's net is as it was.
    DivergedError
        If the loss or a parameter is not finite.
    ImportError
        Without mpi4py or an MPI.
    KeyboardInterrupt
        On all ranks, at a completed step, when Ctrl-C has come on one.
    """
    ranks = Ranks(communication().COMM_WORLD if comm is None else comm)
    given = fitting.Rows(X, y, None, sample_weight, class_weight, validation_data)
    try:
        with ranks.or_abort(), ranks.interrupts_noted():
            job = _Job(net, ranks, given, fitting.Watch((), callbacks, progress, resume), shards)
            return job.run(lambda: fitting.Steps(optimizer, epochs, batch_size, shuffle, l2, job.threads(threads)))
    finally:
        ranks.close()


class _Job:
    """One fit: what all ranks check, and then do, together."""

    def __init__(self, net, ranks, given, watch, shards):
        self.net, self.ranks, self.given, self.watch = net, ranks, given, watch
        self._cores = max(1, backends.get_num_threads() // ranks.machine_ranks)
        ranks.agree(lambda: _check_shards(shards, ranks.size))
        ranks.must_be_same({"shards": shards})
        ranks.cut(shards)

    def threads(self, threads):
        """Threads of this rank, where none are asked for its share of the cores."""
        return self._cores if threads is None else threads

    def run(self, make_steps):
        """The History of the fit, with what `make_steps` makes of the arguments."""
        net, ranks = self.net, self.ranks
        steps = ranks.agree(lambda: self._checked(make_steps))
        ranks.must_be_same(_settings(steps))
        self._begin_as_rank_0()
        classes = self._classes()
        hooks, rows, held_out = ranks.agree(lambda: self._part(classes))
        self._must_suit_each_other(rows, held_out)
        dealt, held_out = (None if part is None else Dealt(ranks, part) for part in (rows, held_out))
        measures = RanksMeasures(net, held_out, steps.threads)
        batch, saved = ranks.agree(lambda: self._planned(steps, hooks, dealt, measures))
        self._check_weights(dealt, held_out)
        given = self._given(dealt)
        ranks.agree(lambda: fitting.prepare(net, dealt.data, given, dealt.total))
        weight = self.given.class_weight
        dealt.data = ranks.agree(lambda: dealt.data.weighted_by_class(net, weight, dealt.total))
        history, rate_scale, stopped, batch = self._restored(saved, steps, batch)
        with (guard := threading.Lock()), contextlib.ExitStack() as stack:
            ranks.agree(lambda: net.claim(guard))
            orders = Orders(dealt, batch, steps.shuffle and batch < dealt.rows, net.seed)
            plan = RanksPlan(net, ranks, dealt, orders, batch, steps.threads)
            stack.callback(plan.close)
            stack.enter_context(ranks.or_abort())
            run = RanksRun(net, plan, steps, history, hooks, measures, ranks)
            run.rate_scale, run.stopped = rate_scale, stopped
            self._train(run, saved, hooks)
        return history

    def _checked(self, make_steps):
        """The Steps; refuses what cannot be done on ranks."""
        net, steps = self.net, make_steps()
        if net.columns is not None:
            raise must_be("net", "one of numbers for fastnn.mpi", described("one that begins with Columns"))
        if net.device == "cuda":
            raise must_be("device", "'cpu' or 'auto' for fastnn.mpi", net.device)
        if data.come_in_batches(self.given.X, self.given.y):
            raise must_be("X", "an array, with y, for fastnn.mpi", described("an iterable of batches"))
        return steps

    def _begin_as_rank_0(self):
        """Take the weights, the optimizer state and all that was learned of rank 0's net."""
        net, ranks = self.net, self.ranks
        ranks.must_be_same({"net": storage.describe(net) | {"n_features": None}})
        other = ranks.of_rank_0(None if net.n_features is None else net)
        ranks.agree(lambda: self._take(other))

    def _take(self, other):
        """Become the net of rank 0, or one that was not trained where that is None."""
        if self.ranks.rank > 0:
            self.net.reset() if other is None else self.net.take(other, other.state)

    def _classes(self):
        """The classes of the text that all ranks have in y; None where they have none."""
        net, ranks, y = self.net, self.ranks, self.given.y
        if net.classes is not None or backends.loss(net.loss).targets == "numbers":
            return None
        learned = ranks.agree(lambda: labels.learn("y", y) if labels.are_text(y) else None)
        found = [each for each in ranks.comm.allgather(learned) if each is not None]
        if not found:
            return None
        classes = np.unique(np.concatenate(found))
        ranks.agree(lambda: data.check_classes(net, "y", classes))
        return classes

    def _part(self, classes):
        """(callbacks, Data to train on, Data to validate on or None) of this rank."""
        net, given = self.net, self.given
        hooks = callbacks.prepare(self.watch.callbacks)
        rows = data.check(net, given.X, given.y, given.sample_weight, classes=classes, may_be_zero=True)
        held_out = None
        if given.validation_data is not None:
            held_out = fitting.data_apart(net, given.validation_data, rows, may_be_zero=True)
        for part in (rows, held_out):
            if part is not None and arrays.on_gpu(part.X):
                raise must_be("X", "in the memory of the host for fastnn.mpi", described("an array on a GPU"))
        return hooks, rows, held_out

    def _must_suit_each_other(self, rows, held_out):
        """Refuse parts, and settings, of ranks that do not belong together."""
        facts = {"class_weight": quoted(self.given.class_weight), "resume": self.watch.resume is not None}
        for prefix, part in (("", rows), ("validation ", held_out)):
            given = part is not None
            facts[f"{prefix}X"] = f"{part.X.shape[1]} features" if given else "none"
            facts[f"{prefix}y"] = (
                f"an array of shape (m{', %d' * (part.y.ndim - 1) % part.y.shape[1:]})" if given else "none"
            )
            facts[f"{prefix}sample_weight"] = "some" if given and part.weights is not None else "none"
            facts[f"the names of the columns of {prefix}X"] = part.columns if given else None
        self.ranks.must_be_same(facts)

    def _planned(self, steps, hooks, dealt, measures):
        """(rows of a step, what rank 0 read of a checkpoint or None)."""
        batch, path = steps.batch(dealt.rows), self.watch.resume
        if dealt.rows < self.ranks.shards:
            accepted = f"an array of at least one row for each of the {self.ranks.shards} shards"
            raise must_be("X", accepted, described(f"{dealt.rows} rows on all ranks"))
        if batch > dealt.rows:
            raise must_be("batch_size", f"at most the {dealt.rows} samples of all ranks, or None", steps.batch_size)
        if self.ranks.rank > 0:
            return batch, None
        callbacks.check(hooks, measures.directions)
        unscaled.warn(self.net, dealt.data)
        if path is None:
            return batch, None
        identity = checkpoint.identity(steps.optimizer, hooks, measures, dealt.rows, batch)
        return batch, checkpoint.at(path, self.net, dealt.data, steps, hooks, identity)

    def _check_weights(self, *parts):
        """Refuse weights whose sum over all ranks is 0."""
        for prefix, part in zip(("", "validation "), parts, strict=True):
            if part is not None and part.data.weights is not None:
                check = partial(validation.check_total_weight, f"{prefix}sample_weight", part.data.weights, part.total)
                self.ranks.agree(check)

    def _given(self, dealt):
        """X and y as they were before they were converted, dealt, where a standardisation is to be learned of them."""
        net = self.net
        learns = net.standardize and net.standardization is None
        return self._dealt_as_given(dealt, "X", learns), self._dealt_as_given(dealt, "y", learns and net.scales_targets)

    def _dealt_as_given(self, dealt, name, wanted):
        if not wanted:
            return None
        value, ranks = getattr(self.given, name), self.ranks
        array = ranks.agree(lambda: validation.numbers_of(name, arrays.host(name, value, "auto")))
        kind = np.result_type(*ranks.comm.allgather(array.dtype.newbyteorder("=")))
        return None if kind == self.net.dtype else dealt.dealt(array.astype(kind, copy=False))

    def _restored(self, saved, steps, batch):
        """(History, factor on the rate, whether it was stopped, rows of a step), of the checkpoint if there is one."""
        net, ranks = self.net, self.ranks
        history, found = History(steps.epochs), None
        if saved is not None:
            saved.restore(net, steps.rule, history)
            facts = saved.facts
            found = net, history, facts["rate_scale"], facts["stopped"], facts["batch"]
        found = ranks.of_rank_0(found)
        if found is None:
            return history, 1.0, False, batch
        self._take(found[0])
        return found[1:]

    def _train(self, run, saved, hooks):
        """Train to the end; rank 0 shows a bar."""
        ranks = self.ranks
        shown = self.watch.progress if ranks.rank == 0 else False
        with ranks.agree(lambda: progress.make(shown, run.epochs)) as bar:
            bar.update = ranks.or_abort()(bar.update)
            run.call("begin")
            if saved is not None:
                saved.restore_callbacks(hooks)
            run.train(bar)


def _check_shards(shards, ranks):
    validation.size("shards", shards)
    if shards & (shards - 1) or not ranks <= shards <= MOST_SHARDS:
        accepted = f"a power of two, at least the number of ranks, {ranks}, and at most {MOST_SHARDS}"
        raise must_be("shards", accepted, shards)


def _settings(steps):
    """Settings of a fit that can be compared; functions by their names."""
    optimizer = re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(steps.optimizer))
    names = "epochs", "batch_size", "shuffle", "l2"
    return {"optimizer": optimizer} | {name: getattr(steps, name) for name in names}
