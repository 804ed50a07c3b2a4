"""Fits of several nets at once: each thread trains a whole net, as in a sweep, where that is all that is asked for."""

import threading
import warnings

import numpy as np

from . import backends, fit, plans
from .errors import DeadUnitsWarning, DivergedError
from .history import History

_PLAIN = {"optimizer", "epochs", "batch_size", "shuffle", "sample_weight", "class_weight", "l2", "rows", "threads"}


def fits(nets, X, y, settings):
    """Fit each net with settings of its own, those of `Sequential.fit`; a net that diverges keeps earlier weights.

    Nets of the CPU that nobody looks at while they are trained are fitted side by side, with the bits of their fits;
    their histories know no times. They diverge back to the weights that they started from.

    Parameters
    ----------
    nets : list of Sequential
        Different ones.
    X, y : array-like
        As `fit` takes them.
    settings : list of dict
        Of each net.

    Returns
    -------
    list of (History, bool)
        Of each net, and whether it diverged.
    """
    plain = [net.device == "cpu" and own.keys() <= _PLAIN for net, own in zip(nets, settings, strict=True)]
    if len(nets) > 1 and all(plain):
        return _side_by_side(nets, X, y, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadUnitsWarning)
        return [_alone(net, X, y, own) for net, own in zip(nets, settings, strict=True)]


def _alone(net, X, y, settings):
    try:
        return net.fit(X, y, **settings), False
    except DivergedError as error:
        return error.history, True


def _side_by_side(nets, X, y, settings):
    tasks, starts, counts, threads = [], [], [], 1
    with (guard := threading.Lock()):
        for net, own in zip(nets, settings, strict=True):
            task, threads = _task(net, X, y, own, guard)
            tasks.append(task)
            starts.append(net.state.parameters.copy())
            counts.append(net.state.step)
        longest_first = sorted(tasks, key=lambda task: -task.epochs_left * task.plan["ROWS"])
        sweep = backends.make_sweep("cpu", longest_first, threads)
        sweep.start()
        try:
            while not sweep.wait():
                pass
        except BaseException:
            sweep.stop()
            sweep.finish()
            raise
        sweep.finish()
        sweep.check()
        for net, task, start in zip(nets, tasks, starts, strict=True):
            if task.diverged:
                net.state.parameters[...] = start
    return [(_history(task, count), task.diverged) for task, count in zip(tasks, counts, strict=True)]


def _task(net, X, y, settings, guard):
    """(task of a net, threads); the net is guarded as by its fit."""
    own = dict(settings)
    given = fit.Rows(X, y, *(own.pop(name, None) for name in ("rows", "sample_weight", "class_weight")))
    steps = fit.Steps(**{"epochs": fit.EPOCHS, "shuffle": True} | own)  # the defaults of `Sequential.fit`
    rows = fit.checked_rows(net, given, steps)[1]
    trained, batch = rows.weighted_by_class(net, given.class_weight), steps.batch(len(rows))
    fit.prepare(net, rows, (X, y))
    net.claim(guard)
    plan = plans.make(net, backends.TRAIN, batch, 1)
    plans.bind(net, plan, trained, steps.shuffle and batch < len(rows))
    net.state.begin_epoch()
    task = backends.SweepTask(plan, net.state, np.zeros(steps.epochs))
    steps.bind(task)
    each = task.steps_per_epoch
    task.bind_epochs(steps.epochs, steps.rates(np.arange(steps.epochs * each) / each), True)
    return task, steps.threads


def _history(task, count):
    """The record of a fit that began after `count` steps."""
    history = History(len(task.losses))
    history.epochs, history.device, history.seconds = task.epochs, "cpu", float("nan")
    history.steps = task.epochs * task.steps_per_epoch if task.diverged else task.state.step - count
    history.buffers.loss[:], history.buffers.elapsed[:] = task.losses, np.nan
    history.buffers.rates[: task.epochs] = task.rates[task.steps_per_epoch - 1 :: task.steps_per_epoch][: task.epochs]
    return history
