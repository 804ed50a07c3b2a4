"""The course's data and starting weights, and the data sets that its exercises use."""

import os
from pathlib import Path

import numpy as np


def data_directory():
    """Folder of the real data: FASTNN_DATA, or ../shared/data beside the repository root."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("FASTNN_DATA", default))


def planar_flower():
    """The two-coloured flower: X (400, 2) float64, y (400,) uint8; seed 1, m = 400, 4 petals."""
    rng = np.random.RandomState(1)
    half = 200
    X = np.zeros((2 * half, 2))
    y = np.zeros(2 * half, dtype=np.uint8)
    for j in range(2):
        rows = slice(half * j, half * (j + 1))
        angle = np.linspace(j * 3.12, (j + 1) * 3.12, half) + rng.randn(half) * 0.2
        radius = 4 * np.sin(4 * angle) + rng.randn(half) * 0.2
        X[rows] = np.c_[radius * np.sin(angle), radius * np.cos(angle)]
        y[rows] = j
    return X, y


def small_normal_weights(widths, seed, scale=0.01):
    """W drawn layer after layer as randn(n_out, n_in) * scale, zero biases: the course's shallow net."""
    rng = np.random.RandomState(seed)
    weights = []
    for n_in, n_out in zip(widths[:-1], widths[1:], strict=True):
        weights += [rng.randn(n_out, n_in) * scale, np.zeros(n_out)]
    return weights


def scaled_normal_weights(widths, seed):
    """W drawn layer after layer as randn(n_out, n_in) / sqrt(n_in), zero biases: the course's deep net."""
    rng = np.random.RandomState(seed)
    weights = []
    for n_in, n_out in zip(widths[:-1], widths[1:], strict=True):
        weights += [rng.randn(n_out, n_in) / np.sqrt(n_in), np.zeros(n_out)]
    return weights


def random_weights(widths, seed):
    """Weights and non-zero biases that put no unit to sleep."""
    rng = np.random.RandomState(seed)
    weights = []
    for n_in, n_out in zip(widths[:-1], widths[1:], strict=True):
        weights += [rng.randn(n_out, n_in) / np.sqrt(n_in), 0.1 * rng.randn(n_out)]
    return weights


def cats():
    """(X_train (209, 12288) in [0, 1], y_train, X_test, y_test), or None where the file is not there."""
    path = data_directory() / "cat_vs_noncat.npz"
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as z:
        flat = [z[name].reshape(len(z[name]), -1) / 255.0 for name in ("X_train", "X_test")]
        return flat[0], z["y_train"], flat[1], z["y_test"]
