"""Three learning rates side by side on one linear unit: too small, right, and one that diverges.

The mean squared error of a linear unit is a parabola in every direction, so theory knows the largest rate at which
gradient descent still converges: 2 / (the largest curvature). The data are scikit-learn's diabetes, standardised.
"""

import numpy as np
from common import options, panels, save
from sklearn.datasets import load_diabetes

import fastnn

RATES = (0.002, 0.1, 0.3)


def main():
    """Fit once for each rate, and draw the costs into one picture."""
    given = options(__doc__)
    X, y = load_diabetes(return_X_y=True)
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
    limit = 2 / np.linalg.eigvalsh(2 / len(X) * X.T @ X).max()
    print(f"gradient descent converges below a learning rate of {limit:.3f}")

    study = fastnn.rate_study([fastnn.Dense(1)], X, y, RATES, epochs=150, batch_size=None)
    for rate, history, diverged in zip(study.rates, study.histories, study.diverged, strict=True):
        loss, end = history.loss, f"diverged in epoch {history.epochs}" if diverged else "the end"
        print(
            f"rate {rate:g}: cost {loss[0]:.3f} at first, {loss[np.isfinite(loss)][-1]:.4g} at last, lowest "
            f"{np.nanmin(loss):.4f} in iteration {np.nanargmin(loss)}; {end}"
        )
    figure, ax = panels()
    study.plot(ax).set(title="Cost by learning rate", xlabel="iteration", ylabel="mean squared error")
    save(figure, given.output / "learning_rates.png")


if __name__ == "__main__":
    main()
