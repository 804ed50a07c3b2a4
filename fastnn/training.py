"""What `fit` and `partial_fit` accept, and the run that they make of it."""

import numpy as np

from . import arrays, backends, batches, callbacks, checkpoint, metrics, progress, validation
from .errors import described, must_be
from .fitting import Measures, Run, Stream
from .history import History
from .optimizers import Adam, Optimizer

_FOR_ARRAYS = {
    "batch_size": None,
    "shuffle": True,
    "sample_weight": None,
    "class_weight": None,
    "validation_split": None,
}


def fit(net, X, y, **settings):
    """Carry out `Sequential.fit`, whose arguments these are."""
    optimizer = _optimizer(settings["optimizer"])
    epochs = validation.size("epochs", settings["epochs"])
    l2 = validation.number("l2", settings["l2"], low=0.0)
    threads = backends.thread_count("threads", settings["threads"])
    shuffle = validation.flag("shuffle", settings["shuffle"])
    hooks = callbacks.prepare(settings["callbacks"])
    scores = metrics.resolve(settings["metrics"], net.loss)
    source, data, held_out = _all_data(net, X, y, epochs, shuffle, settings)
    if source is not None and scores and held_out is None:
        raise must_be("metrics", "() where X gives batches and there are no validation_data", settings["metrics"])
    rows, n_features = data[0].shape
    batch = rows if settings["batch_size"] is None else validation.size("batch_size", settings["batch_size"])
    if batch > rows:
        raise must_be("batch_size", f"at most the {rows} samples, or None for all", batch)
    measures = Measures(net, scores, held_out, data, threads)
    for hook in hooks:
        hook._check(measures.directions)
    saved = None
    if settings["resume"] is not None:
        identity = checkpoint.identity(optimizer, hooks, measures, rows if source is None else None, batch)
        saved = checkpoint.at(settings["resume"], net, n_features, identity, epochs)
    history = History(epochs)
    with progress.make(settings["progress"], epochs) as bar:
        net._learn(*data[:2])
        if saved is not None:
            saved.restore_net(net)
        others = optimizer, epochs, history, hooks, measures
        if source is None:
            plan = _plan_for(net, batch, optimizer, l2, threads, data, shuffle and batch < rows)
            run = Run(net, plan, *others)
        else:
            batch = batch if saved is None else saved.facts["batch"]
            on_gpu = arrays.on_gpu(data[0])
            run = Stream(net, source, lambda rows: _plan(net, rows, optimizer, l2, threads, on_gpu), batch, *others)
        if saved is not None:
            saved.restore_run(run)
        run.call("begin")
        if saved is not None:
            saved.restore_callbacks(hooks)
        run.train(bar)
    return history


def partial_fit(net, X, y, optimizer, sample_weight, l2, threads):
    """Carry out `Sequential.partial_fit`, whose arguments these are."""
    optimizer, l2 = _optimizer(optimizer), validation.number("l2", l2, low=0.0)
    threads = backends.thread_count("threads", threads)
    data = net._data(X, y, sample_weight)
    net._learn(*data[:2])
    history = History(1)
    plan = _plan_for(net, len(data[0]), optimizer, l2, threads, data)
    Run(net, plan, optimizer, 1, history).train(progress.Silent())
    return float(history.loss[0])


def _source(net, X, epochs, settings):
    """Batches of an iterable, checked together with what does not go with it."""
    for name, default in _FOR_ARRAYS.items():
        if settings[name] is not default:
            raise must_be(name, f"{default} where X gives batches", settings[name])
    features = None

    def check(X, y, weights, name):
        nonlocal features
        data = net._data(X, y, weights, prefix=name, features=features)
        features = data[0].shape[1]
        return data

    source = batches.Batches(X, check)
    if source.once and epochs > 1:
        raise must_be("epochs", "1 for an iterator, which can be passed over once only", epochs)
    return source


def _plan(net, batch, optimizer, l2, threads, on_gpu):
    """A plan of steps of `batch` rows, without data."""
    plan = net._plan(batch, threads, backends.WITH_LOSS | backends.WITH_GRADIENT, on_gpu, training=True)
    net._prepare(plan, optimizer, l2)
    return plan


def _plan_for(net, batch, optimizer, l2, threads, data, shuffle=False):
    """A plan of steps of `batch` rows of these data."""
    plan = _plan(net, batch, optimizer, l2, threads, arrays.on_gpu(data[0]))
    net._give(plan, *data, shuffle)
    return plan


def _optimizer(optimizer):
    if optimizer is None:
        return Adam()
    if not isinstance(optimizer, Optimizer):
        raise must_be("optimizer", "a fastnn optimizer such as fastnn.Adam()", optimizer, TypeError)
    return optimizer


def _all_data(net, X, y, epochs, shuffle, settings):
    """(Batches or None, data to train on or the first batch of them, held-out data or None), all checked."""
    source, held_out = None, None
    if batches.given(X, y):
        source = _source(net, X, epochs, settings)
        data = source.first
    else:
        data = net._data(X, y, settings["sample_weight"], settings["class_weight"])
    given, share = settings["validation_data"], settings["validation_split"]
    if given is not None:
        if not isinstance(given, list | tuple) or len(given) not in (2, 3):
            raise must_be("validation_data", "None, (X, y) or (X, y, sample_weight)", given, TypeError)
        if share is not None:
            raise must_be("validation_split", "None where validation_data are given", share)
        held_out = net._data(*given[:2], *given[2:], prefix="validation ", features=data[0].shape[1])
    elif share is not None:
        data, held_out = _split(net, data, share, shuffle)
    return source, data, held_out


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
