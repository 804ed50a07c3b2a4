"""Draw docs/bfloat16.png: the loss of a net of 784-512-512-10 units on MNIST in float32 and with products in bfloat16.

    FASTNN_DATA=folder-with-mnist.npz python docs/bfloat16_curve.py

Needs a CPU with AMX, and matplotlib. The same weights, batches and optimizer; each point is the mean of 20 steps.
"""

import os
from pathlib import Path

import matplotlib
import numpy as np

import fastnn

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

EPOCHS, BATCH, SMOOTH = 3, 128, 20
COLOURS = {"float32": "#E69F00", "bf16": "#0072B2"}


def images(data, part):
    """(X, y) of a part."""
    return data[f"X_{part}"].reshape(-1, 784) / np.float32(255.0), data[f"y_{part}"].astype(np.int64)


def train(precision, X, y):
    """(net, loss of each step)."""
    layers = [fastnn.Dense(512, "relu"), fastnn.Dense(512, "relu"), fastnn.Dense(10, "softmax")]
    net, rule, losses = fastnn.Sequential(layers, precision=precision, seed=0), fastnn.Adam(1e-3), []
    random = np.random.default_rng(0)
    for _ in range(EPOCHS):
        order = random.permutation(len(X))
        for at in range(0, len(X) - BATCH + 1, BATCH):
            rows = order[at : at + BATCH]
            losses.append(net.partial_fit(X[rows], y[rows], optimizer=rule))
    return net, np.array(losses)


def main():
    """Train both, print their scores, draw."""
    with np.load(Path(os.environ["FASTNN_DATA"]) / "mnist.npz") as data:
        (X, y), test = images(data, "train"), images(data, "test")
    figure, axes = pyplot.subplots(figsize=(7, 3.6), dpi=150, layout="constrained")
    for precision, colour in COLOURS.items():
        net, losses = train(precision, X, y)
        found = net.evaluate(*test)
        print(f"{precision}: loss of the last epoch {losses[-len(losses) // EPOCHS :].mean():.4f}, test {found}")
        means = losses[: len(losses) // SMOOTH * SMOOTH].reshape(-1, SMOOTH).mean(axis=1)
        label = f"{precision}: {found['accuracy']:.4f} of the test set"
        axes.plot(np.arange(len(means)) * SMOOTH, means, color=colour, label=label, lw=1.2, alpha=0.8)
    axes.set_yscale("log")
    axes.set_xlabel(f"steps of {BATCH} images")
    axes.set_ylabel("cross-entropy")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(Path(__file__).with_name("bfloat16.png"))


if __name__ == "__main__":
    main()
