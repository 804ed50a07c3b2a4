"""Many runs on a GPU: nets of one program on the same rows are trained side by side, a block each where it holds one.

The host takes part after each epoch where a net may stop early, else a few times a second.
"""

import time
from collections.abc import Iterator

import numpy as np

from ..sweep import Task
from ..tables import TRAIN, State
from .group import Group, Single
from .schedule import fits, one_block

CHUNK_SECONDS = 0.1  # between two looks of the caller: Ctrl-C, progress


class Sweep:
    """Nets that a GPU trains; the use is that of `kernels.cpu.sweep.Sweep`.

    Parameters
    ----------
    tasks : sequence of Task
        Nets of one dtype, with what they are to do next.
    """

    def __init__(self, tasks: list[Task]) -> None:
        self._tasks, self.done, self._stopped = tasks, 0, False
        groups: dict[tuple[int, str, int], list[Task]] = {}
        for task in tasks:
            task.done = False
            groups.setdefault((id(task.plan), task.rule.name, task.epochs_left), []).append(task)
        self._rest = self._train_all(list(groups.values()))

    def start(self) -> None:
        """Begin: the work is done while the caller waits."""

    def wait(self) -> bool:
        """Work for a tenth of a second, or to the end; gives whether that has come."""
        end = time.perf_counter() + CHUNK_SECONDS
        while time.perf_counter() < end:
            if next(self._rest, self) is self:
                return True
        return False

    def stop(self) -> None:
        """Let every net end where it stands."""
        self._stopped = True

    def finish(self) -> None:
        """Come to the end, after `wait` or `stop`."""
        for _ in self._rest:
            pass

    def check(self) -> None:
        """Raise what a function of the user's own raised: on a GPU none can."""

    def _train_all(self, groups):
        for tasks in groups:
            program, dtype = tasks[0].plan.program, tasks[0].state.parameters.dtype
            together = fits(one_block(program, dtype, tasks[0].plan["BATCH"], TRAIN), dtype)
            for part in [tasks] if together else [[task] for task in tasks]:
                if self._stopped:
                    return
                yield from self._train(part, Group if together else Single)

    def _train(self, tasks: list[Task], kind: type[Group] | type[Single]) -> Iterator[None]:
        """Train the tasks of one plan, then judge them; a pause after each chunk."""
        nets = _bound(tasks, kind)
        losses = np.zeros((len(tasks), tasks[0].epochs + tasks[0].epochs_left))
        first = nets.counters[:, State.EPOCH].copy()
        by_epoch = any(task.validation is not None or task.patience for task in tasks)
        left, chunk, each = tasks[0].epochs_left, 1, tasks[0].steps_per_epoch
        done = 0
        while done < left and nets.active.any() and not self._stopped:
            count, start = min(chunk, left - done), time.perf_counter()
            nets.bind_steps(_rates(tasks, done * each, (done + count) * each), losses)
            nets.execute()
            done += count
            if by_epoch:
                _look(tasks, nets, losses)
            else:
                chunk = max(1, int(chunk * CHUNK_SECONDS / max(time.perf_counter() - start, 1e-3)))
            yield
        for i, task in enumerate(tasks):
            made = int(nets.counters[i, State.EPOCH] - first[i])
            task.losses[task.epochs : task.epochs + made] = losses[i, first[i] : first[i] + made]
            task.epochs, task.diverged = task.epochs + made, bool(nets.diverged[i])
            task.ended = not task.diverged and (task.ended or task.last and done == left)
        if not self._stopped:
            self._judge(tasks, nets)
        _take_over(tasks, nets)

    def _judge(self, tasks, nets):
        """Put best weights back, and take losses and outputs of the held-out rows."""
        nets.active[:] = ~nets.diverged
        if any(task.best_epoch is not None and task.restores_best for task in tasks):
            nets.to_host()
            for task, own, best in zip(tasks, nets.parameters, nets.remembered(), strict=True):
                if task.best_epoch is not None:
                    task.best_parameters[...] = best
                    task.restored = task.ended and not np.array_equal(own, best)
                    own[...] = best if task.ended else own
            nets.to_device()
        judged = [task for task in tasks if not task.diverged]
        if judged and judged[0].loss_plan is not None:
            for task, loss in zip(judged, nets.evaluate(), strict=True):
                task.validation_loss = float(loss)
        if judged and judged[0].output_plan is not None:
            kept = judged[0].output_plan.kept
            for task, outputs in zip(judged, nets.predict(kept["X"], kept.get("ROW_INDEX")), strict=True):
                task.out[...] = outputs
        for task in tasks:
            task.done = True
        self.done += len(tasks)


def _bound(tasks, kind):
    """The nets of some tasks, with rows and hyperparameters."""
    plan, states = tasks[0].plan, [task.state for task in tasks]
    nets = kind(
        plan.program,
        np.stack([state.parameters for state in states]),
        np.array([state.table[State.SEED] for state in states]),
        plan["BATCH"],
        tasks[0].rule,
        plan.precision,
    )
    nets.go_on(states)
    nets.bind_data(*_rows(plan), shuffle=bool(plan["SHUFFLE"]))
    if tasks[0].loss_plan is not None:
        nets.bind_held_out(*_rows(tasks[0].loss_plan))
    for i, task in enumerate(tasks):
        nets.bind_net(i, *task.settings)
        if task.best_epoch is not None and task.best_parameters is not None:
            nets.recall(i, task.best_parameters)
    nets.active[:] = [not task.ended for task in tasks]
    return nets


def _rows(plan):
    """(X, y, weights, labels, rows) of a bound plan."""
    kept = plan.kept
    return kept["X"], kept["Y"], kept.get("WEIGHTS"), bool(plan["LABELS"]), kept.get("ROW_INDEX")


def _rates(tasks, first, end):
    """The learning rates of some steps, (nets, steps), or (1, steps) where all have the same."""
    if all(task.rates is tasks[0].rates for task in tasks):
        tasks = tasks[:1]
    steps = [task.rates[:1].repeat(end - first) if len(task.rates) == 1 else task.rates[first:end] for task in tasks]
    return np.stack(steps)


def _look(tasks, nets, losses):
    """Record the validation losses of an epoch, and stop nets by the rules of EarlyStopping."""
    active, values = np.flatnonzero(nets.active), {}
    if active.size and tasks[0].validation is not None:
        values = dict(zip(active, nets.evaluate(), strict=True))
    for i in active:
        task, epoch = tasks[i], int(nets.counters[i, State.EPOCH]) - 1
        value = float(losses[i, epoch])
        if i in values:
            value = task.validation[epoch] = float(values[i])
        if task.patience and task.improves(value, epoch):
            if task.restores_best:
                nets.remember(np.array([i]))
        elif task.patience and task.wait >= task.patience:
            task.ended, nets.active[i] = True, False


def _take_over(tasks, nets):
    """Bring parameters, moments and counters into the states of the tasks."""
    nets.to_host()
    for i, task in enumerate(tasks):
        task.state.copy_from(nets.state(i))
        if task.diverged or task.restored:
            task.state.forget()
