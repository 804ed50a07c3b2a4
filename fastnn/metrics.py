"""Scores of a net's outputs."""

import numpy as np

CROSS_ENTROPIES = ("binary_cross_entropy", "cross_entropy")


def labels(outputs, loss):
    """Classes from probabilities (m, k): indices (m,) for cross_entropy, else 0 or 1 an output; (m,) for one output."""
    if loss == "cross_entropy":
        return outputs.argmax(axis=1)
    above = (outputs > 0.5).astype(np.int64)
    return above[:, 0] if above.shape[1] == 1 else above


def accuracy(outputs, y, loss, weights=None):
    """Weighted share of right labels; y as the loss takes it: (m,) or (m, k)."""
    if loss == "binary_cross_entropy":
        truth = y > 0.5
    else:
        truth = y if y.ndim == 1 else y.argmax(axis=1)
    right = labels(outputs, loss) == truth
    return float(np.average(right.reshape(len(right), -1).mean(axis=1), weights=weights))


def r2(outputs, y, weights=None):
    """Weighted share of the variance of y that is explained, mean over the outputs; NaN for a constant y."""
    target = y.reshape(len(y), -1).astype(np.float64)
    mean = np.average(target, axis=0, weights=weights)
    spread = np.average((target - mean) ** 2, axis=0, weights=weights)
    error = np.average((target - outputs) ** 2, axis=0, weights=weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.mean(np.where(spread > 0, 1 - error / spread, np.nan)))
