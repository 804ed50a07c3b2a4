"""Overfitting, and early stopping against it, on scikit-learn's digits of which one in five has a wrong label.

A quarter of the 400 training images is held out. A net is trained to the end, and once more with early stopping.
"""

import numpy as np
from common import options, panels, save
from sklearn.datasets import load_digits

import fastnn
from fastnn.plot import COLOURS

IMAGES, WRONG = 400, 0.2


def noisy_digits(seed=0):
    """(X, y) to train on, some y drawn anew at random, and (X, y) to test on, as they are."""
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    X, y = X[order] / 16, y[order]
    labels = y[:IMAGES].copy()
    drawn = rng.random(IMAGES) < WRONG / 0.9  # one in ten of these gets its old label
    labels[drawn] = rng.integers(0, 10, drawn.sum())
    return (X[:IMAGES], labels), (X[IMAGES:], y[IMAGES:])


def main():
    """Fit to the end and with early stopping, and draw both into one picture."""
    given = options(__doc__)
    train, test = noisy_digits()
    runs = {"to the end": [], "early stopping": [fastnn.EarlyStopping(patience=30)]}
    for name, callbacks in runs.items():
        hidden = fastnn.Dense(64, "relu", kernel_initializer="he_normal")
        net = fastnn.Sequential([hidden, hidden, fastnn.Dense(10, "softmax")], seed=0)
        history = net.fit(
            *train,
            optimizer=fastnn.Adam(1e-3),
            epochs=20 if given.quick else 150,
            batch_size=20,
            validation_split=0.25,
            metrics=("accuracy",),
            callbacks=callbacks,
        )
        runs[name], result = history, net.evaluate(*test)
        print(
            f"{name}: {history.epochs} epochs, cost {history.loss[-1]:.3f}, on validation images "
            f"{history.validation_loss[-1]:.3f}; test cost {result['loss']:.3f}, test accuracy {result['accuracy']:.3f}"
        )

    whole, stopped = runs.values()
    figure, (left, right) = panels(2, width=9.6)
    whole.plot(left)
    fastnn.plot.metrics(whole, right)
    best, last = stopped.best_epoch, stopped.epochs - 1
    print(f"lowest validation cost {stopped.validation_loss[best]:.3f} in epoch {best}")
    for ax, curve in ((left, stopped.validation_loss), (right, stopped.metrics["accuracy"])):
        ax.plot([best], [curve[best]], "o", color="black", fillstyle="none", label="weights that are put back")
        ax.axvline(last, color=COLOURS[2], linestyle="--", label="end of early stopping")
    left.set(title="Cost", ylabel="cross-entropy")
    left.get_legend().remove()
    right.set(title="Accuracy on the validation images", ylabel="accuracy")
    right.lines[0].set_color(COLOURS[1])
    right.legend(handles=left.lines, loc="lower right", frameon=False)  # here is room for it
    save(figure, given.output / "early_stopping.png")


if __name__ == "__main__":
    main()
