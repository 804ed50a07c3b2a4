"""Depth against width: nets of about 300 parameters, from one wide hidden layer to many narrow ones.

They learn two spirals of three turns, 20 times each from other starting weights.
"""

import numpy as np
from common import options, save
from matplotlib.figure import Figure

import fastnn
from fastnn.plot import COLOURS, decision_boundary

DEPTHS = (1, 2, 3, 4, 6, 8)
PARAMETERS = 300
SHOWN = (1, 3, 8)  # depths whose decision boundary is drawn


def spirals(points, seed, turns=3, noise=0.01):
    """Points (points, 2) on two arms, and the number of the arm of each."""
    rng = np.random.default_rng(seed)
    radius = np.sqrt(rng.uniform(0.02, 1, points // 2))
    angle = 2 * np.pi * turns * radius
    arm = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    X = np.vstack([arm, -arm])
    return X + rng.normal(0, noise, X.shape), np.repeat([0, 1], points // 2)


def parameters(depth, width):
    """Weights and biases of a net with two inputs, hidden layers of one width, and one output."""
    return 3 * width + (depth - 1) * width * (width + 1) + width + 1


def main():
    """Fit every depth from several starting weights, and draw accuracies and boundaries."""
    given = options(__doc__)
    train, test = spirals(1000, seed=0), spirals(2000, seed=1)
    figure = Figure(figsize=(9.0, 6.0), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    ax, boundaries = above.subplots(), dict(zip(SHOWN, below.subplots(1, 3, sharey=True), strict=True))

    names, medians = [], []
    for place, depth in enumerate(DEPTHS):
        width = min(range(2, PARAMETERS), key=lambda width: abs(parameters(depth, width) - PARAMETERS))
        results = []
        for seed in range(2 if given.quick else 20):
            layers = [fastnn.Dense(width, "relu") for _ in range(depth)]
            net = fastnn.Sequential([*layers, fastnn.Dense(1, "sigmoid")], seed=seed)
            net.fit(*train, optimizer=fastnn.Adam(0.01), epochs=20 if given.quick else 400, batch_size=50)
            results.append((net.evaluate(*test)["accuracy"], seed, net))
        results.sort()
        accuracies = [accuracy for accuracy, _, _ in results]
        names.append(f"{depth} x {width}\n({parameters(depth, width)})")
        medians.append(np.median(accuracies))
        print(
            f"{depth} hidden layers of {width}, {parameters(depth, width)} parameters: test accuracy "
            f"{accuracies[0]:.3f} to {accuracies[-1]:.3f}, median {medians[-1]:.3f}"
        )
        spread = np.linspace(-0.12, 0.12, len(accuracies))  # beside each other, so that each is seen
        ax.plot(place + spread, accuracies, "o", color=COLOURS[5], markersize=4, label=None if place else "one net")
        if depth in boundaries:
            accuracy, _, net = results[(len(results) - 1) // 2]
            drawn = decision_boundary(net, *train, boundaries[depth])
            drawn.set(title=f"{depth} x {width}: {accuracy:.1%}", aspect="equal")
            drawn.label_outer()
            drawn.get_legend().remove()
            for points in drawn.collections[-2:]:
                points.set(sizes=[5], linewidths=0)
    ax.plot(medians, "_", color=COLOURS[1], markersize=28, markeredgewidth=2, label="median")
    ax.set_xticks(range(len(DEPTHS)), names)
    ax.set(xlabel="hidden layers x units (parameters)", ylabel="accuracy on new points", title="Depth against width")
    ax.grid(axis="y", alpha=0.25)
    ax.legend(loc="lower left", frameon=False)
    save(figure, given.output / "depth_and_width.png")


if __name__ == "__main__":
    main()
