"""Depth against width: nets of nearly the same size, from one wide hidden layer to many narrow ones.

About 300 parameters learn two spirals of three turns, about 60 the parity of eight bits, 20 times each from other
starting weights.
"""

import numpy as np
from common import options, save
from matplotlib.figure import Figure

import fastnn

SHOWN = (1, 3, 8)  # depths whose decision boundary is drawn


def spirals(points, seed, turns=3, noise=0.01):
    """Points (points, 2) on two arms, and the number of the arm of each."""
    rng = np.random.default_rng(seed)
    radius = np.sqrt(rng.uniform(0.02, 1, points // 2))
    angle = 2 * np.pi * turns * radius
    arm = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    X = np.vstack([arm, -arm])
    return X + rng.normal(0, noise, X.shape), np.repeat([0, 1], points // 2)


def parity(bits=8):
    """All words of some bits, as -1 and 1, and whether the number of ones is odd."""
    words = np.arange(1 << bits)[:, np.newaxis] >> np.arange(bits) & 1
    return 2.0 * words - 1.0, words.sum(axis=1) % 2


def studied(name, *arguments, quick, epochs, **more):
    """The study of one problem, and a line of print for each depth."""
    settings = dict(optimizer=fastnn.Adam(0.01), epochs=20 if quick else epochs, seeds=range(2 if quick else 20))
    study = fastnn.depth_study(*arguments, kernel_initializer="he_normal", **settings, **more)
    for depth, width, size, scores in zip(study.depths, study.widths, study.parameters, study.scores, strict=True):
        print(
            f"{name}, {depth} hidden layers of {width}, {size} parameters: accuracy {scores.min():.3f} to "
            f"{scores.max():.3f}, median {np.median(scores):.3f}"
        )
    return study


def main():
    """Fit every depth from several starting weights, and draw accuracies and boundaries."""
    given = options(__doc__)
    train, test = spirals(1000, seed=0), spirals(2000, seed=1)
    on_spirals = studied("spirals", *train, test, 300, quick=given.quick, epochs=400, batch_size=50)
    words = parity()
    on_parity = studied("parity", *words, words, 60, depths=(1, 2, 3, 4), quick=given.quick, epochs=2000, batch_size=32)

    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    left, right = above.subplots(1, 2, width_ratios=(3, 2))
    on_spirals.plot(left).set(title="Two spirals, about 300 parameters", ylabel="accuracy on new points")
    on_parity.plot(right).set(title="Parity of 8 bits, about 60", ylabel="accuracy on all words")
    for depth, ax in zip(SHOWN, below.subplots(1, len(SHOWN), sharey=True), strict=True):
        place = on_spirals.depths.tolist().index(depth)
        scores, width = on_spirals.scores[place], on_spirals.widths[place]
        middle = np.argsort(scores)[(len(scores) - 1) // 2]
        fastnn.plot.decision_boundary(on_spirals.nets[place][middle], *train, ax)
        ax.set(title=f"{depth} x {width}: {scores[middle]:.1%}", aspect="equal")
        ax.label_outer()
        ax.get_legend().remove()
        for points in ax.collections[-2:]:
            points.set(sizes=[5], linewidths=0)
    save(figure, given.output / "depth_and_width.png")


if __name__ == "__main__":
    main()
