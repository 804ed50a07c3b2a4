"""Three learning rates side by side on one linear unit: too small, right, and one that diverges.

The mean squared error of a linear unit is a parabola in every direction, so theory knows the largest rate at which
gradient descent still converges: 2 / (the largest curvature). The data are scikit-learn's diabetes, standardised.
"""

import numpy as np
from common import options, panels, save
from sklearn.datasets import load_diabetes

import fastnn
from fastnn.plot import COLOURS

RATES = {0.002: "too small", 0.1: "right", 0.3: "diverges"}


def main():
    """Fit once for each rate, and draw the costs into one picture."""
    given = options(__doc__)
    X, y = load_diabetes(return_X_y=True)
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
    limit = 2 / np.linalg.eigvalsh(2 / len(X) * X.T @ X).max()
    print(f"gradient descent converges below a learning rate of {limit:.3f}")

    figure, ax = panels()
    for (rate, verdict), colour in zip(RATES.items(), COLOURS, strict=False):
        net = fastnn.Sequential([fastnn.Dense(1)], seed=0)
        try:
            history = net.fit(X, y, optimizer=fastnn.SGD(rate), epochs=150)
            print(f"rate {rate}: cost {history.loss[0]:.3f} at first, {history.loss[-1]:.4f} after {history.epochs}")
        except fastnn.DivergedError as error:
            history = error.history
            lowest, high = history.loss.argmin(), (history.loss > 100).argmax()
            print(
                f"rate {rate}: cost {history.loss[0]:.3f} at first, {history.loss[lowest]:.3f} in iteration {lowest},"
            )
            print(f"  above 100 in iteration {high}; then: {error}")
        history.plot(ax)
        ax.lines[-1].set(color=colour, label=f"{rate:g}: {verdict}")
    ax.set(title="Cost by learning rate", xlabel="iteration", ylabel="mean squared error", ylim=(0.3, 100))
    ax.legend(title="learning rate", frameon=False)
    save(figure, given.output / "learning_rates.png")


if __name__ == "__main__":
    main()
