"""A fit in a file, and back from it."""

import os
from typing import TYPE_CHECKING

import numpy as np

from . import callbacks, storage, validation
from .errors import described, must_be

if TYPE_CHECKING:
    from .fit import Run

_RECORDS = ("loss", "validation_loss", "learning_rate", "elapsed")


class Checkpoint(callbacks.Callback):
    """Keep the fit in a file, from which `fit(..., resume=path)` goes on in another process (extra `checkpoint`).

    The file holds weights, optimizer state, history, counters and the state of the other callbacks. It is written
    beside its place, synced to the disk and renamed, so that it is whole at any moment: a kill or a full disk leaves
    the one before.

    Parameters
    ----------
    path : path-like
        The file; its folder must exist.
    every : int
        Epochs between two writings; the last epoch is always written.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    ImportError
        Without safetensors.
    """

    last = True  # what the others decide after an epoch belongs into the file

    def __init__(self, path: storage.PathLike, every: int = 1) -> None:
        storage.library("Checkpoint")
        self.path, self.every = storage.check_target("path", path), validation.size("every", every)

    def _check(self, directions):
        storage.check_target("path", self.path)

    def epoch(self, run: "Run") -> None:
        """Write the file, where it is time.

        Parameters
        ----------
        run : Run
            The fit.
        """
        epochs = run.history.epochs
        if epochs % self.every == 0 or epochs == run.epochs or run.stopped:
            storage.write(self.path, *_capture(run))


def _capture(run):
    """(facts, arrays) of a run at the end of an epoch."""
    net, history, moments = run.net, run.history, run.net.state.moments
    kept = storage.arrays(net) | {f"history {name}": getattr(history, name) for name in _RECORDS}
    kept |= {f"metric {name}": values for name, values in history.metrics.items()}
    kept |= {f"state {i}": state for i, state in enumerate(moments) if state.any()}
    states = []
    for i, hook in enumerate(_with_state(run.hooks)):
        plain = {}
        for name, value in hook.state().items():
            if isinstance(value, np.ndarray):
                kept[f"callback {i} {name}"] = value
            else:
                plain[name] = value
        states.append(plain)
    facts = {
        "net": storage.describe(net),
        "epoch": net.state.epoch,
        "step": net.state.step,
        "fit": identity(run.steps.optimizer, run.hooks, run.measures, run.rows, run.batch),
        "epochs": history.epochs,
        "steps": history.steps,
        "seconds": history.seconds,
        "best_epoch": history.best_epoch,
        "batch": run.batch,
        "rate_scale": run.rate_scale,
        "stopped": run.stopped,
        "metrics": list(history.metrics),
        "callbacks": states,
    }
    return facts, kept


def _with_state(hooks):
    return [hook for hook in hooks if callbacks.overrides(hook, "state")]


def identity(optimizer, hooks, measures, rows, batch):
    """What must be the same in a fit and in the file from which it goes on, beside the net.

    Parameters
    ----------
    optimizer : Optimizer
        Of the fit.
    hooks : list of Callback
        Of the fit.
    measures : Measures
        What it records.
    rows, batch : int
        Rows of the data and of a step; None for batches from an iterable.

    Returns
    -------
    dict
        What JSON can hold.
    """
    return {
        "optimizer": f"{type(optimizer).__name__} ({optimizer.rule})",
        "callbacks": [type(hook).__name__ for hook in _with_state(hooks)],
        "record": list(measures.directions),
        "number of rows": rows,
        "batch_size": None if rows is None else batch,
    }


class Saved:
    """A checkpoint that suits the fit to come; nothing has been changed by it yet.

    Parameters
    ----------
    path : str
        The file.
    net : Sequential
        Of the fit.
    n_features : int
        Its inputs.
    fit : dict
        From `identity`.
    epochs : int
        Epochs asked for, those of the file included.
    """

    def __init__(self, path, net, n_features, fit, epochs):
        self.facts, self.arrays = storage.read("resume", path)
        facts = self.facts
        if "fit" not in facts:
            raise must_be("resume", "a file of a Checkpoint", described(f"a net alone: {path}"))
        pairs = [*_differences(facts["net"], storage.describe(net, n_features))]
        pairs += [(f"the {name}", facts["fit"][name], fit[name]) for name in fit]
        for what, found, wanted in pairs:
            if found != wanted:
                given = described(f"one where {what} is {found!r} and not {wanted!r}: {path}")
                raise must_be("resume", "a checkpoint of this net and this fit", given)
        if facts["epochs"] > epochs:
            accepted = f"at least the {facts['epochs']} that the checkpoint has done"
            raise must_be("epochs", accepted, epochs)

    def restore(self, net, rule, history):
        """Bring a net that has been built, and a history, to where the file's stood.

        Parameters
        ----------
        net : Sequential
            Gets parameters, optimizer state and counters.
        rule : Rule
            Whose moments the file has.
        history : History
            Of the fit.
        """
        facts, arrays, state, written = self.facts, self.arrays, net.state, history.buffers
        storage.restore(net, arrays)
        state.keep(rule)
        for i, moment in enumerate(state.moments):
            moment[...] = arrays.get(f"state {i}", 0.0)  # what is absent was zero
        state.step, state.epoch, done = facts["step"], facts["epoch"], facts["epochs"]
        written.loss[:done], written.rates[:done] = arrays["history loss"], arrays["history learning_rate"]
        written.elapsed[:done] = arrays["history elapsed"]
        written.validation = list(arrays["history validation_loss"])
        written.metrics = {name: list(arrays[f"metric {name}"]) for name in facts["metrics"]}
        history.epochs, history.steps, history.seconds = done, facts["steps"], facts["seconds"]
        history.best_epoch = facts["best_epoch"]

    def restore_callbacks(self, hooks):
        """Give callbacks that have begun what they knew."""
        for i, (hook, plain) in enumerate(zip(_with_state(hooks), self.facts["callbacks"], strict=True)):
            prefix = f"callback {i} "
            own = {key.removeprefix(prefix): value for key, value in self.arrays.items() if key.startswith(prefix)}
            hook.restore(plain | own)


def _differences(found, wanted):
    """(what, found, wanted) of each setting of a net."""
    counts = [len(net["layers"]) for net in (found, wanted)]
    yield "the number of layers", *counts
    for name in wanted:
        if name != "layers":
            yield f"the net's {name}", found.get(name), wanted[name]
    for i, (one, other) in enumerate(zip(found["layers"], wanted["layers"], strict=False), 1):
        for name in other:
            yield f"the {name} of layer {i}", one.get(name), other[name]


def at(path, *arguments):
    """The Saved of a file, or None where there is none yet."""
    text = storage.check_target("resume", path)
    storage.library("resume")
    return Saved(text, *arguments) if os.path.exists(text) else None
