"""Scale: what more data and larger nets are worth, on scikit-learn's digits, beside logistic regression and a forest.

Every model learns from 16 to 1,297 images, five times from other images; 500 images that none has seen judge it.
"""

import numpy as np
from common import options, panels, save
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

import fastnn

HIDDEN = {"small net": (8,), "medium net": (32,), "large net": (256, 256)}


def layers(hidden):
    """Layers of a net with these hidden units."""
    start = "he_normal"
    return [*(fastnn.Dense(n, "relu", kernel_initializer=start) for n in hidden), fastnn.Dense(10, "softmax")]


def main():
    """Fit all models on growing parts of the data, and draw their scores."""
    given = options(__doc__)
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order] / 16, y[order]
    nets = {"logistic regression": lambda seed: fastnn.logistic_net(10, seed=seed)}
    study = fastnn.scale_study(
        nets | {name: layers(hidden) for name, hidden in HIDDEN.items()},
        X[500:],
        y[500:],
        test=(X[:500], y[:500]),
        seeds=range(2 if given.quick else 5),
        rivals={"random forest": lambda: RandomForestClassifier(10 if given.quick else 100, random_state=0)},
        epochs=5 if given.quick else 100,
        batch_size=32,
    )
    for name, scores in study.scores.items():
        medians = ", ".join(f"{median:.3f}" for median in np.median(scores, axis=1))
        print(f"{name}: {medians}")
    figure, ax = panels()
    study.plot(ax).set(title="Digits: accuracy by the number of images")
    save(figure, given.output / "scale.png")


if __name__ == "__main__":
    main()
