"""What convolution.py and recurrence.py share: MNIST, layers whose parameters are one vector, and training by Adam."""

import os
from pathlib import Path

import numpy as np
from numba import njit

from fastnn.kernels.cpu import adam_update, dense_backward, dense_forward, work_size
from fastnn.kernels.cpu.rng import permutation


def mnist(rows):
    """(X, y, X_test, y_test): pictures (m, 28, 28) from 0 to 1 and classes (m, 1), `rows` of those to learn from."""
    path = Path(os.environ.get("FASTNN_DATA", ".")) / "mnist.npz"
    if not path.is_file():
        raise SystemExit(f"{path} must be MNIST, as Keras keeps it; set FASTNN_DATA to its folder")
    with np.load(path) as file:
        found = {name.lower(): file[name].astype(np.float32) for name in file}
    X, y = found["x_train"][:rows] / 255, found["y_train"][:rows, None]
    return X, y, found["x_test"] / 255, found["y_test"][:, None]


@njit
def layers(theta, shapes):
    """(W, b) of each layer, as views of the vector of all parameters; `shapes` are those of W, (outputs, inputs)."""
    found, at = [], 0
    for n_out, n_in in shapes:
        bias = at + n_out * n_in
        found.append((theta[at:bias].reshape((n_out, n_in)), theta[bias : bias + n_out]))
        at = bias + n_out
    return found


def start(shapes):
    """Parameters to begin with: normal weights, whose variance is 1 / inputs, and no biases."""
    theta, rng = np.zeros(sum(n_out * (n_in + 1) for n_out, n_in in shapes), np.float32), np.random.default_rng(0)
    for W, _ in layers(theta, shapes):
        W[:] = rng.normal(0, W.shape[1] ** -0.5, W.shape)
    return theta


@njit
def dense(X, W, b, activation):
    """A = g(X W^T + b)."""
    A, work = np.empty((len(X), len(W)), X.dtype), np.empty(work_size(len(X), X.shape[1], len(W)), X.dtype)
    dense_forward(X, W, b, activation, 0.0, work, A, A)
    return A


@njit
def dense_gradient(dA, A, X, W, activation, dX, dW, db):
    """Write what dA makes of dX, dW and db; dA becomes the gradient before the activation."""
    work = np.empty(work_size(len(X), X.shape[1], len(W)), X.dtype)
    dense_backward(dA, A, A, X, W, activation, 0.0, work, dX, dW, db)


@njit
def train(gradient, theta, X, y, batch, epochs, rate):
    """Adam with a rate that falls to zero, all of it compiled; `gradient` writes a gradient and gives the loss."""
    grad, first, second = np.empty_like(theta), np.zeros_like(theta), np.zeros_like(theta)
    order, steps, losses = np.empty(len(X), np.int64), len(X) // batch, np.zeros(epochs)
    for step in range(epochs * steps):
        epoch, at = step // steps, step % steps * batch
        if at == 0:
            permutation(0, epoch, order)
        rows = order[at : at + batch]
        losses[epoch] += gradient(theta, X[rows], y[rows], grad) / steps
        now = rate * (1 - step / (epochs * steps))
        adam_update(theta, grad, first, second, now, 0.9, 0.999, 1e-8, 0.0, 0.0, step + 1)
    return losses
