"""Recurrence, in compiled code of your own: a net reads MNIST's handwritten digits row by row, from top to bottom.

A recurrent layer is a dense layer on [x, h]: what it reads now, beside what it gave a step ago, times one W. So the
kernels of dense layers do all the arithmetic. The state after each row stands in one matrix, and so does its gradient:
dW of all 28 steps is one product.
"""

import numpy as np
from common import options, panels, save
from numba import njit
from training import dense, dense_gradient, layers, mnist, start, train

from fastnn.kernels import CROSS_ENTROPY, LINEAR, TANH
from fastnn.kernels.cpu import activation_backward, dense_forward, loss_backward, loss_forward, matmul, work_size

ROWS, PIXELS, UNITS = 28, 28, 128
SHAPES = (UNITS, PIXELS + UNITS), (10, UNITS)  # of W: the state from [row, state], the classes from the state


@njit
def forward(theta, pictures):
    """(XH, Z): [row, state before it] of step t in its m rows from t m on, and logits after each step."""
    (W, b), (V, c) = layers(theta, SHAPES)
    m = len(pictures)
    XH, work = np.zeros(((ROWS + 1) * m, PIXELS + UNITS), theta.dtype), np.empty(work_size(m, *W.shape), theta.dtype)
    for at in range(0, ROWS * m, m):
        for i in range(m):  # an assignment of arrays would take three seconds more to compile
            for j in range(PIXELS):
                XH[at + i, j] = pictures[i, at // m, j]
        state = XH[at + m : at + 2 * m, PIXELS:]  # it is written to where the next step reads it
        dense_forward(XH[at : at + m], W, b, TANH, 0.0, work, state, state)
    return XH, dense(XH[m:, PIXELS:], V, c, LINEAR)


@njit
def gradient(theta, pictures, y, grad):
    """Write the gradient of the mean cross-entropy after all rows, where later ones count more; gives the mean."""
    XH, Z = forward(theta, pictures)
    (W, _), (V, _) = layers(theta, SHAPES)
    (dW, db), (dV, dc) = layers(grad, SHAPES)
    m, n = len(pictures), len(Z)
    classes, weights, dZ = np.empty((n, 1), Z.dtype), np.empty(n, Z.dtype), np.empty_like(Z)
    dH, before = np.empty((n, UNITS), Z.dtype), np.empty((m, UNITS), Z.dtype)
    unwanted, work = np.empty((0, 0), Z.dtype), np.empty(0, Z.dtype)
    for i in range(n):
        classes[i, 0], weights[i] = y[i % m, 0], i // m * m / n
    loss_backward(CROSS_ENTROPY, 0.0, Z, classes, weights, dZ)
    H = XH[m:, PIXELS:]
    dense_gradient(dZ, Z, H, V, LINEAR, dH, dV, dc)
    for at in range(n - m, -1, -m):  # back through time: dH becomes the gradient before tanh
        now = dH[at : at + m]
        activation_backward(TANH, 0.0, now, H[at : at + m], H[at : at + m], now)
        if at > 0:
            matmul(now, W[:, PIXELS:], work, before)
            for i in range(m):
                for j in range(UNITS):
                    dH[at - m + i, j] += before[i, j]
    dense_gradient(dH, dH, XH[:n], W, LINEAR, unwanted, dW, db)
    return loss_forward(CROSS_ENTROPY, 0.0, Z, classes, weights)


def probabilities(theta, pictures):
    """Of each class after each row: (rows, m, classes)."""
    Z = forward(theta, pictures)[1].reshape(ROWS, len(pictures), 10)
    shares = np.exp(Z - Z.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def main():
    """Train the net, count its errors on pictures that it has not seen, and draw how it makes up its mind."""
    given = options(__doc__)
    X, y, X_test, y_test = mnist(6_000 if given.quick else 60_000)
    theta = start(SHAPES)
    losses = train(gradient, theta, X, y, 100, 3 if given.quick else 6, 2e-3)
    found = np.concatenate([probabilities(theta, part) for part in np.split(X_test, 10)], axis=1)
    held = found.argmax(-1)
    right = held == y_test[:, 0]
    print(f"loss by epoch: {', '.join(f'{loss:.3f}' for loss in losses)}")
    for read in (10, 14, 18, 22, ROWS):
        print(f"accuracy on {len(X_test):,} test pictures after {read} rows: {right[read - 1].mean():.4f}")

    figure, axes = panels(5, width=12.4, height=4.1, width_ratios=[1, 0.6, 1, 0.6, 1.4])
    changes = (held[1:] != held[:-1]).sum(0) * right[-1] * (found[-1].max(1) > 0.9)  # of mind, where it ends sure
    for picture, digit, mind in zip(np.argsort(-changes, kind="stable"), axes[::2], axes[1::2], strict=False):
        digit.imshow(X_test[picture], "gray_r", aspect="auto")
        digit.set(xticks=[], ylabel="rows read")
        mind.imshow(found[:, picture], "Blues", aspect="auto", vmin=0, vmax=1)
        mind.set(xticks=range(10), yticks=[], xlabel="class", title="probability")
    axes[-1].plot(np.arange(1, ROWS + 1), right.mean(1))
    axes[-1].set(title="Accuracy", xlabel="rows read", ylim=(0, 1))
    axes[-1].grid(alpha=0.25)
    save(figure, given.output / "recurrence.png")


if __name__ == "__main__":
    main()
