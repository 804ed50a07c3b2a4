"""Why the log loss: the cost of one sigmoid neuron over its weight and bias, by squared error and by cross-entropy.

The neuron tells two kinds of iris apart, versicolor and virginica, by the width of the petal, standardised. From a
wrong and sure start gradient descent with the squared error hardly moves.
"""

import numpy as np
from common import options, save
from matplotlib.figure import Figure
from sklearn.datasets import load_iris

import fastnn

START, RATE = (-8.0, 0.0), 1.0  # weight and bias


def descent(loss, x, y, steps):
    """Costs of gradient descent from the start."""
    net = fastnn.Sequential([fastnn.Dense(1, "sigmoid")], loss=loss, dtype="float64").build(1)
    net.set_weights([[[START[0]]], [START[1]]])
    return net.fit(x[:, np.newaxis], y, optimizer=fastnn.SGD(RATE), epochs=steps, batch_size=None), net


def main():
    """Draw both surfaces, and descend on both."""
    given = options(__doc__)
    X, kinds = load_iris(return_X_y=True)
    x, y = X[kinds > 0, 3], kinds[kinds > 0] - 1
    x = (x - x.mean()) / x.std()
    surface = fastnn.cost_surface(x, y)
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    axes = surface.plot(figure.subplots(1, 2, sharey=True))
    for ax, (name, curvature) in zip(axes, surface.curvatures.items(), strict=True):
        loss = "mse" if name == "squared error" else "binary_cross_entropy"
        history, net = descent(loss, x, y, 10 if given.quick else 200)
        accuracy = np.mean((net.predict(x[:, np.newaxis])[:, 0] > 0.5) == y)
        print(
            f"{name}: lowest curvature {curvature.min():.2g}; descent from {history.loss[0]:.3f} to "
            f"{history.loss[-1]:.3f}, accuracy {accuracy:.2f}"
        )
        ax.plot(*START, "o", color="white", markeredgecolor="black")
        style = dict(boxstyle="round,pad=0.2", facecolor="white", edgecolor="none")
        ax.annotate("start", START, xytext=(8, 8), textcoords="offset points", bbox=style)
    axes[1].set_ylabel("")
    save(figure, given.output / "log_loss.png")


if __name__ == "__main__":
    main()
