"""A fit in a file, and back from it."""

import os
from typing import TYPE_CHECKING

import numpy as np

from . import callbacks, files, storage, validation
from .errors import described, must_be

if TYPE_CHECKING:
    from .fit import Run

_RECORDS = ("loss", "validation_loss", "learning_rate", "elapsed")
_FACTS = {
    "net": dict,
    "fit": dict,
    "metrics": list,
    "callbacks": list,
    "feature_names": (list, type(None)),
    **dict.fromkeys(("epoch", "step", "epochs", "steps", "batch", "format"), int),
    **dict.fromkeys(("seconds", "rate_scale"), float),
    "best_epoch": (int, type(None)),
    "stopped": bool,
}


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

    def __init__(self, path: files.PathLike, every: int = 1) -> None:
        files.library("Checkpoint")
        self.path, self.every = files.check_target("path", path), validation.size("every", every)

    def _check(self, directions):
        files.check_target("path", self.path)

    def epoch(self, run: "Run") -> None:
        """Write the file, where it is time.

        Parameters
        ----------
        run : Run
            The fit.
        """
        epochs = run.history.epochs
        if epochs % self.every == 0 or epochs == run.epochs or run.stopped:
            files.write(self.path, *_capture(run))


def _capture(run):
    """(facts, arrays) of a run at the end of an epoch, copied."""
    net, history = run.net, run.history
    kept = {f"history {name}": getattr(history, name) for name in _RECORDS}
    kept |= {f"metric {name}": values for name, values in history.metrics.items()}
    kept |= {f"state {i}": moment for i, moment in enumerate(net.state.moments) if moment.any()}
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
        "seconds": float(history.seconds),
        "best_epoch": history.best_epoch,
        "batch": run.batch,
        "rate_scale": float(run.rate_scale),
        "stopped": bool(run.stopped),
        "metrics": list(history.metrics),
        "callbacks": states,
    } | storage.learned_facts(net)
    copies = {name: np.array(array, array.dtype.newbyteorder("="), order="C") for name, array in kept.items()}
    return facts, storage.arrays(net) | copies


def _listed(array):
    return None if array is None else array.tolist()


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
    rows : Data
        That it is trained on.
    steps : Steps
        How its steps are made, and how many epochs are asked for, those of the file included.
    hooks : list of Callback
        Of the fit.
    fit : dict
        From `identity`.
    """

    def __init__(self, path, net, rows, steps, hooks, fit):
        self.facts, self.arrays = files.read("resume", path)
        facts, n_features = self.facts, rows.X.shape[1]
        if "fit" not in facts:
            raise must_be("resume", "a file of a Checkpoint", described(f"a net alone: {path}"))
        with files.refusing("resume", path):
            _check_facts(facts, fit)
        pairs = [*_differences(facts["net"], storage.describe(net, n_features))]
        pairs += [(f"the {name}", facts["fit"][name], fit[name]) for name in fit]
        if facts["feature_names"] and rows.columns:
            pairs.append(("the feature_names", facts["feature_names"], list(rows.columns)))
        pairs.append(("what class indices stand for", facts.get("classes"), _listed(rows.classes)))
        for what, found, wanted in pairs:
            if found != wanted:
                given = described(f"one where {what} is {found!r} and not {wanted!r}: {path}")
                raise must_be("resume", "a checkpoint of this net and this fit", given)
        if facts["epochs"] > steps.epochs:
            accepted = f"at least the {facts['epochs']} that the checkpoint has done"
            raise must_be("epochs", accepted, steps.epochs)
        with files.refusing("resume", path):
            self.found = storage.suitable(facts, self.arrays, net, n_features)
            if rows.encoding is not None and self.found.encoding != rows.encoding:
                raise must_be(
                    "X", "the table of the checkpoint", described("one of which columns learn something else")
                )
            if net.standardize and self.found.learned is None:
                raise must_be("mean", "an array, for a net with standardize=True", None)
            self._check_arrays(net.dtype, steps.rule, fit["record"])
            self.states = self._states()
            callbacks.check_states(_with_state(hooks), self.states, (self.found.size,), net.dtype, facts["epochs"])

    def _check_arrays(self, dtype, rule, record):
        """Refuse arrays that are missing, unsuitable, or of nothing."""
        arrays, epochs = self.arrays, self.facts["epochs"]
        recorded = ["loss", "learning_rate", "elapsed", *(["validation_loss"] if "validation_loss" in record else [])]
        lengths = {f"history {name}": epochs if name in recorded else 0 for name in _RECORDS}
        lengths |= {f"metric {name}": epochs for name in self.facts["metrics"]}
        for name, length in lengths.items():
            files.must_be_array(name, arrays.get(name), (length,), np.float64)
        moments = {f"state {i}" for i in range(len(rule.states))} & arrays.keys()
        for name in moments:
            files.must_be_array(name, arrays[name], (self.found.size,), dtype)
            if np.isnan(arrays[name]).any():
                raise must_be(name, "an array without NaN", arrays[name])
        others = arrays.keys() - self.found.arrays - lengths.keys() - moments
        others = [name for name in others if not name.startswith("callback ")]
        if others:
            raise must_be("arrays", "those of a checkpoint alone", described(f"others, too: {others}"))

    def _states(self):
        """What each callback kept."""
        states = [dict(plain) for plain in self.facts["callbacks"]]
        for key, array in self.arrays.items():
            if key.startswith("callback "):
                number, _, name = key.removeprefix("callback ").partition(" ")
                if number not in map(str, range(len(states))):
                    raise must_be(key, f"of one of the {len(states)} callbacks", array)
                states[int(number)][name] = array
        return states

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
        storage.restore(net, self.found)
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
        for hook, state in zip(_with_state(hooks), self.states, strict=True):
            hook.restore(state)


def _check_facts(facts, fit):
    """Refuse facts that no `_capture` gives."""
    files.must_have("facts", facts, _FACTS | storage.optional(facts))
    storage.check_description(facts["net"])
    files.must_have("fit", facts["fit"], dict.fromkeys(fit, files.SETTING))
    for names in (facts["feature_names"] or [], facts["fit"]["callbacks"], facts["fit"]["record"], facts["metrics"]):
        files.must_be_names("names", names)
    if facts["metrics"] != [name for name in facts["fit"]["record"] if name not in ("loss", "validation_loss")]:
        raise must_be("metrics", "those of the record", facts["metrics"])
    if [type(state) for state in facts["callbacks"]] != [dict] * len(facts["fit"]["callbacks"]):
        raise must_be("callbacks", "a dict for each", described("others"))
    for name in ("epoch", "step", "steps"):
        validation.counter(name, facts[name])
    validation.size("epochs", facts["epochs"])
    if facts["best_epoch"] is not None and not 0 <= facts["best_epoch"] < facts["epochs"]:
        raise must_be("best_epoch", "None or one of the epochs", facts["best_epoch"])
    validation.number("seconds", facts["seconds"], low=0.0)
    validation.number("rate_scale", facts["rate_scale"], low=0.0)
    batch, same = facts["batch"], facts["fit"]["batch_size"]
    if validation.size("batch", batch) >= 1 << 31 or same not in (None, batch):
        raise must_be("batch", "below 2**31, and batch_size where there is one", batch)


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
    files.library("resume")
    text = files.as_text("resume", path)
    if os.path.exists(text):
        return Saved(text, *arguments)
    files.check_target("resume", text)
    return None
