"""What `evaluate` does, for a net and for an ensemble."""

from typing import Any, NamedTuple

from . import backends, data, metrics


class Asked(NamedTuple):
    """The arguments of `Sequential.evaluate`."""

    X: Any
    y: Any
    sample_weight: Any
    threads: Any
    metrics: Any
    rows: Any


def evaluate(net, n_features, asked, outputs_of, loss_of):
    """Loss and scores by name.

    Parameters
    ----------
    net : Sequential or Ensemble
        Which the rows must suit.
    n_features : int
        Its inputs.
    asked : Asked
        What the user passed.
    outputs_of : callable
        The outputs (m, n_out) on the host, from (net, Data, threads).
    loss_of : callable
        The mean loss, from (net, Data, those outputs, threads).

    Returns
    -------
    dict
        As `Sequential.evaluate` says.
    """
    kind = backends.loss(net.loss).targets
    wanted = metrics.resolve(["r2" if kind == "numbers" else "accuracy"], kind) + metrics.resolve(asked.metrics, kind)
    threads = backends.thread_count("threads", asked.threads)
    these = data.check(net, asked.X, asked.y, asked.sample_weight, rows=asked.rows, features=n_features)
    y, weights = these.targets, these.counted_weights
    metrics.check(wanted, y, kind, net.outputs, weights)
    outputs = outputs_of(net, these, threads)
    found = metrics.computed(wanted, outputs, y, weights)
    return {"loss": loss_of(net, these, outputs, threads)} | found
