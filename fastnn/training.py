"""What `fit` and `partial_fit` accept, and the run that they make of it."""

import numpy as np

from . import backends, callbacks, metrics, progress, validation
from .errors import described, must_be
from .fitting import Measures, Run
from .history import History
from .optimizers import Adam, Optimizer


def fit(net, X, y, **settings):
    """Carry out `Sequential.fit`, whose arguments these are."""
    optimizer = _optimizer(settings["optimizer"])
    epochs = validation.size("epochs", settings["epochs"])
    l2 = validation.number("l2", settings["l2"], low=0.0)
    threads = backends.thread_count("threads", settings["threads"])
    shuffle = validation.flag("shuffle", settings["shuffle"])
    hooks = callbacks.prepare(settings["callbacks"])
    scores = metrics.resolve(settings["metrics"], net.loss)
    data = net._data(X, y, settings["sample_weight"], settings["class_weight"])
    held_out = _held_out(net, settings["validation_data"], data[0])
    if settings["validation_split"] is not None:
        if held_out is not None:
            raise must_be("validation_split", "None where validation_data are given", settings["validation_split"])
        data, held_out = _split(net, data, settings["validation_split"], shuffle)
    rows = len(data[0])
    batch = rows if settings["batch_size"] is None else validation.size("batch_size", settings["batch_size"])
    if batch > rows:
        raise must_be("batch_size", f"at most the {rows} samples, or None for all", batch)
    measures = Measures(net, scores, held_out, data, threads)
    for hook in hooks:
        hook._check(measures.directions)
    history = History(epochs)
    with progress.make(settings["progress"], epochs, rows) as bar:
        net._learn(*data[:2])
        plan = _plan(net, data, batch, optimizer, l2, shuffle, threads)
        run = Run(net, plan, optimizer, epochs, history, hooks, measures)
        run.call("begin")
        run.train(bar)
    return history


def _plan(net, data, batch, optimizer, l2, shuffle, threads):
    """A plan of steps of `batch` rows on these data."""
    X, y, labels, weights = data
    plan = net._plan(batch, threads, backends.WITH_LOSS | backends.WITH_GRADIENT, drops=True)
    net._give(plan, X, y, labels, weights, shuffle and batch < len(X))
    net._prepare(plan, optimizer, l2)
    return plan


def _optimizer(optimizer):
    if optimizer is None:
        return Adam()
    if not isinstance(optimizer, Optimizer):
        raise must_be("optimizer", "a fastnn optimizer such as fastnn.Adam()", optimizer, TypeError)
    return optimizer


def _held_out(net, given, X):
    """Checked validation data, or None."""
    if given is None:
        return None
    if not isinstance(given, list | tuple) or len(given) not in (2, 3):
        raise must_be("validation_data", "None, (X, y) or (X, y, sample_weight)", given, TypeError)
    return net._data(*given[:2], *given[2:], prefix="validation ", like=X)


def _split(net, data, share, shuffle):
    """(data to train on, held-out data): the last rows, as views, or random ones, as copies in their old order."""
    rows = len(data[0])
    share = validation.number("validation_split", share, above=0.0, below=1.0)
    held = max(1, round(rows * share))
    if held >= rows:
        given = described(f"{share} of {rows} rows")
        raise must_be("validation_split", "a share that leaves rows to train on", given)
    if shuffle:
        # the layers draw from (seed, number of the layer)
        chosen = np.zeros(rows, bool)
        chosen[np.random.default_rng((net.seed, len(net.layers))).permutation(rows)[:held]] = True
        parts = ~chosen, chosen
    else:
        parts = slice(0, rows - held), slice(rows - held, rows)
    X, y, labels, weights = data
    if weights is not None and not all(weights[part].any() for part in parts):
        raise must_be("sample_weight", "not all zero in either part", described(f"a validation_split of {share} so"))
    return [(X[part], y[part], labels, None if weights is None else weights[part]) for part in parts]
