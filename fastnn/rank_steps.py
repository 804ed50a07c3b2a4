"""Training on several ranks: a step of all, the run that makes such steps, and what is recorded after an epoch.

A step: each rank makes the gradients of its shards, of the mean loss of each, and adds them up in the tree as far as it
holds them; each sums the rest for its share of the parameters, and updates that; then all go on with all parameters.
"""

import math
from itertools import pairwise

import numpy as np

from . import backends, callbacks, fit, plans
from .ranks import exchange, tree_sum


class RanksPlan:
    """What a `fit.Run` has of a Plan of the command TRAIN, over rows of several ranks.

    Parameters
    ----------
    net : Sequential
        Built, and the same on all ranks.
    ranks : Ranks
        Who take part.
    dealt : Dealt
        The rows to train on.
    orders : Orders
        In which order.
    batch : int
        Rows of a step, of all shards.
    threads : int
        Threads of this rank that may take part.
    """

    device = "cpu"

    def __init__(self, net, ranks, dealt, orders, batch, threads):
        self.program, self.state, self._ranks, self._orders = net.program, net.state, ranks, orders
        self._dealt, self._seed, self._fields = dealt, net.seed, {"ROWS": dealt.rows, "BATCH": batch}
        self.diverged, self._newer, self._clips, self._l2 = False, False, None, 0.0
        self.exchange = exchange(ranks, self.program, net.dtype, self._place_notes(ranks))
        theta = self.exchange.theta
        self.exchange.put(self.state.parameters)
        most = -(-batch // ranks.shards)  # rows of a shard in a step
        make = backends.make_plan
        self._gradient = make("cpu", "float32", self.program, theta, most, backends.GRADIENT, threads)
        self._update = make("cpu", "float32", self.program, theta, batch, backends.APPLY, threads, self.state)
        self._update.leave_share(ranks.rank, ranks.size)
        plans.bind(net, self._gradient, dealt.chosen(ranks.held.start))
        # for the share of this rank, and for what the sum of two nodes of the tree needs on the way
        self._total = np.zeros_like(theta)
        largest = max(high - low for low, high in self.exchange.sums)
        self._spare = [np.zeros_like(theta) for _ in range(largest.bit_length() - 1)]
        self._remembered = np.empty_like(theta)

    def _place_notes(self, ranks):
        """Find places for what ranks tell each other; gives how many numbers that is."""
        rows = self.program.ranges[:, 1].tolist()  # of each range of the parameters
        self._row_ends = np.cumsum([0, *rows]).tolist()
        # the loss of each shard, whether a rank failed, sums of the squares of each row of parameters and gradient
        counts = {"loss": ranks.shards, "failed": ranks.size, "parameters": sum(rows), "gradient": sum(rows)}
        ends = np.cumsum([0, *counts.values()]).tolist()
        self._places = {name: slice(*limits) for name, limits in zip(counts, pairwise(ends), strict=True)}
        return ends[-1]

    def close(self):
        """Free the memory that ranks share."""
        self.exchange.close()

    def __getitem__(self, name):
        return self._fields[name]

    def bind_rule(self, rule, settings, weight_decay, l2, clip_value, clip_norm):
        """As `Plan.bind_rule` does."""
        self._l2, self._clips = l2, None
        if clip_norm is not None:  # the norm is that of the shares of all ranks
            self._clips, l2, clip_value = (clip_value, clip_norm), 0.0, None
        self._update.bind_rule(rule, settings, weight_decay, l2, clip_value, None)

    def bind_steps(self, rates, losses, finished):
        """As `Plan.bind_steps` does."""
        self._rates, self._losses, self._finished = rates, losses, finished
        self._update.bind_steps(rates[:0])

    def remember(self):
        """Keep the parameters as they stand, for `restore`."""
        np.copyto(self._remembered, self.exchange.theta)

    def restore(self):
        """Put back the parameters that `remember` kept."""
        self.exchange.put(self._remembered)
        self._newer = True

    def to_host(self):
        """Bring the parameters, and all moments, into the arrays of the state; all ranks call it."""
        if self._newer:
            self.state.parameters[...] = self.exchange.theta
            for moment in self.state.moments:
                self.exchange.gather_shares(moment)
            self._newer = False

    def has_parameters(self, values):
        """Whether these are the parameters."""
        return np.array_equal(values, self.exchange.theta)

    def to_ranks(self):
        """Go on with the parameters of rank 0's state; all ranks call it."""
        self.exchange.put(self.state.parameters)
        self._newer = True

    @np.errstate(over="ignore", invalid="ignore")  # the loss and the parameters show it
    def execute(self):
        """Make the steps that are bound; with none, compile or load what they need."""
        self.diverged = False
        if not len(self._rates):
            self._update.execute()
        for rate in self._rates:
            if not self._step(rate):
                self.diverged = True
                return
        self.diverged = not np.isfinite(self.exchange.theta).all()

    execute_interruptibly = execute  # Ctrl-C is noted after each step

    def _step(self, rate):
        """A step of all ranks; False where its loss is not finite."""
        state, orders, share = self.state, self._orders, self.exchange
        step = state.position
        if step == 0:
            orders.begin(state.epoch)
            self._gradient.set(DROPOUT_KEY=backends.dropout_key(self._seed, state.epoch))
        masses = orders.masses(step)
        mass, failure = float(masses.sum()), None
        # where all shards weigh the same, the sum is divided, else each shard has its share of the weight
        even = bool((masses == masses[0]).all())
        try:
            if self._l2:
                self._note_squares(share.theta, "parameters")
            self.make_gradients(step, masses, None if even else masses / (mass or 1.0))
        except BaseException as error:
            failure = error
        failed = share.written[self._places["failed"]]
        failed[self._ranks.rank] = failure is not None or self._ranks.interrupted
        share.tell()
        with self._ranks.or_abort():
            if share.notes[self._places["failed"]].any():
                self._ranks.end_if_failed(failure)
            loss = self._mean_loss(masses, mass)
            if mass > 0.0 and not math.isfinite(loss):
                return False
            if mass > 0.0:
                self.sum_share(1.0 / len(masses) if even else 1.0)
                self.update_share(rate)
            share.publish()
        self._newer = True
        ends = state.position + 1 == orders.steps
        mean = state.count(loss, mass, ends)
        if ends:
            self._losses[self._finished] = mean
            self._finished += 1
        return True

    def make_gradients(self, step, masses, factors):
        """The gradients of this rank's shards, summed for each node of the tree that it holds."""
        for (low, high), out in self.exchange.sums.items():
            self._sum_of_shards(step, masses, factors, low, high, out, 0)

    def _sum_of_shards(self, step, masses, factors, low, high, out, depth):
        if high - low == 1:
            self._shard(step, low, masses[low], 1.0 if factors is None else factors[low], out)
            return
        middle, other = (low + high) // 2, self._spare[depth]
        self._sum_of_shards(step, masses, factors, low, middle, out, depth + 1)
        self._sum_of_shards(step, masses, factors, middle, high, other, depth + 1)
        np.add(out, other, out=out)

    def _shard(self, step, shard, mass, factor, out):
        """The gradient of the mean loss of a shard's rows in a step, times a factor; its loss goes to the notes."""
        losses, plan = self.exchange.written[self._places["loss"]], self._gradient
        if mass == 0.0:
            losses[shard] = 0.0
            out.fill(0.0)
            return
        first, places = self._orders.rows(step, shard)
        # dropout draws masks by the number of a sample in the epoch: those of another shard are others
        seen = shard * self._dealt.size(0) + first
        plan.set(GRADIENTS=out, ROW_INDEX=places, ROWS=len(places), SEEN=seen)
        plans.run(plan)
        losses[shard] = plan.loss
        if factor != 1.0:
            np.multiply(out, out.dtype.type(factor), out=out)

    def _mean_loss(self, masses, mass):
        """The loss of a step, with the l2 term; 0 for rows without weight."""
        notes = self.exchange.notes
        loss = float((notes[self._places["loss"]] * masses).sum()) / mass if mass > 0.0 else 0.0
        if self._l2 and mass > 0.0:
            loss += 0.5 * self._l2 * self._sum_of_squares("parameters", penalized=True)
        return loss

    def sum_share(self, factor):
        """Sum this rank's share of the gradient over all shards, times a factor."""
        total = self._total
        for part, pieces in zip(self.exchange.own_share, self.exchange.own_parts(), strict=True):
            np.multiply(tree_sum(pieces), total.dtype.type(factor), out=total[part])

    def update_share(self, rate):
        """Update this rank's share of the parameters."""
        if self._clips is not None:
            self._clip(self._total)
        self._update.bind_gradient(self._total)
        self._update.bind_steps(np.array([rate]))
        self._update.execute()

    def _clip(self, gradient):
        """Clip this rank's share of a gradient, with its l2 term, by value and then by the norm of all shares."""
        value, norm = self._clips
        for part, decays in zip(self.exchange.own_share, self._decays(), strict=True):
            if decays:
                gradient[part] += self._l2 * self.exchange.theta[part]
            if value is not None:
                np.clip(gradient[part], -value, value, out=gradient[part])
        self._note_squares(gradient, "gradient")
        self.exchange.tell()
        # as torch.nn.utils.clip_grad_norm_ does
        scale = norm / (math.sqrt(self._sum_of_squares("gradient")) + 1e-6)
        if scale <= 1.0:
            for part in self.exchange.own_share:
                gradient[part] *= gradient.dtype.type(scale)

    def _decays(self):
        return [bool(each) for *_, each, _ in self.program.ranges]

    def _note_squares(self, array, name):
        """Write the sum of the squares of each row of this rank's share of an array (p,) to the notes."""
        rank, size, squares = self._ranks.rank, self._ranks.size, self.exchange.written[self._places[name]]
        for i, (part, (_, rows, columns, *_)) in enumerate(
            zip(self.exchange.own_share, self.program.ranges.tolist(), strict=True)
        ):
            low, high = backends.limits(rows, rank, size)
            matrix = array[part].reshape(-1, columns)
            squares[self._row_ends[i] + low : self._row_ends[i] + high] = np.square(matrix, dtype=np.float64).sum(
                axis=1
            )

    def _sum_of_squares(self, name, penalized=False):
        """Of the squares that all ranks noted, of all rows, or of those on which l2 acts."""
        squares, summed = self.exchange.notes[self._places[name]], 0.0
        for (low, high), decays in zip(pairwise(self._row_ends), self._decays(), strict=True):
            if decays or not penalized:
                summed += float(squares[low:high].sum())
        return summed


class RanksRun(fit.Run):
    """A fit on several ranks. Callbacks are called on rank 0 alone, and all ranks follow what they decide.

    Parameters
    ----------
    net, plan, steps, history, hooks, measures
        As for `Run`, of a RanksPlan.
    ranks : Ranks
        Who take part.
    """

    def __init__(self, net, plan, steps, history, hooks, measures, ranks):
        self._ranks = ranks
        count, by_epoch = ranks.comm.bcast((len(hooks), any(callbacks.overrides(hook, "epoch") for hook in hooks)))
        if ranks.rank > 0:
            hooks = [callbacks.Callback()] * count  # which do nothing
        super().__init__(net, plan, steps, history, hooks, measures)
        self.by_epoch = self.by_epoch or by_epoch

    def call(self, hook):
        """Call one hook of every callback, on rank 0; then all ranks have what came of it."""
        ranks, state = self._ranks, self.state
        before = state.rule, state.moments, state.step
        ranks.agree(lambda: super(RanksRun, self).call(hook))
        changed = None
        if ranks.rank == 0 and self.hooks:
            same = state.rule is before[0] and state.moments is before[1] and state.step == before[2]
            if not (same and self.plan.has_parameters(state.parameters)):
                changed = state
        found = ranks.of_rank_0((self.stopped, self.rate_scale, self.history.best_epoch, changed))
        self.stopped, self.rate_scale, self.history.best_epoch, changed = found
        if changed is not None:
            if ranks.rank > 0:
                state.copy_from(changed)
            self.plan.to_ranks()

    def _chunk(self):
        return self._ranks.agree(super()._chunk)

    def _chunk_steps(self):
        return self._ranks.comm.bcast(super()._chunk_steps())


class RanksMeasures:
    """What is recorded after each epoch beside the training loss: the loss of the validation data of all ranks.

    Parameters
    ----------
    net : Sequential
        Whose loss it is.
    held_out : Dealt or None
        Validation data.
    threads : int
        Threads of this rank that may take part.
    """

    def __init__(self, net, held_out, threads):
        self._net, self._held_out, self._threads, self._plans = net, held_out, threads, {}
        self.directions = {"loss": False} | ({} if held_out is None else {"validation_loss": False})

    def __bool__(self):
        return self._held_out is not None

    def record(self, history):
        """Add to a history what stands now."""
        losses, masses = self._held_out.ranks.total(self._of_shard, lambda one, other: one + other)
        history.buffers.validation.append(float(losses / masses))

    def _of_shard(self, shard):
        """(sum of the losses of a shard's rows, their weight)."""
        rows = self._held_out.chosen(shard)
        weights = rows.counted_weights
        mass = float(len(rows)) if weights is None else float(weights.sum(dtype=np.float64))
        if mass == 0.0:
            return np.zeros(2)
        plan = self._plans.get(shard)
        if plan is None:
            plan = self._plans[shard] = plans.loss_plan(self._net, rows, self._threads)
        return np.array([plans.loss_of(plan) * mass, mass])
