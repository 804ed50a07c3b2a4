"""Sigmoid, tanh and ReLU hidden units: the cost by iteration and by second.

A net 64-32-32-10 learns scikit-learn's digits by gradient descent on all images, once with each kind of hidden unit.
"""

from common import options, panels, save
from sklearn.datasets import load_digits

import fastnn

RATE = 0.2


def main():
    """Fit once for each kind of unit, and draw the costs over iterations and over seconds."""
    given = options(__doc__)
    X, y = load_digits(return_X_y=True)
    X /= 16
    fastnn.warmup("float32")

    figure, (by_iteration, by_second) = panels(2, width=9.6, sharey=True)
    for name in ("sigmoid", "tanh", "relu"):
        hidden = fastnn.Dense(32, name, kernel_initializer="he_normal" if name == "relu" else "glorot_uniform")
        net = fastnn.Sequential([hidden, hidden, fastnn.Dense(10, "softmax")], seed=0)
        epochs = 20 if given.quick else 2000
        history = net.fit(X, y, optimizer=fastnn.SGD(RATE), epochs=epochs, batch_size=None)
        print(
            f"{name}: cost below 1 after {(history.loss >= 1).sum()} iterations, "
            f"{history.loss[-1]:.4f} after {history.epochs}; {history.microseconds_per_step:.0f} us an iteration"
        )
        colour = history.plot(by_iteration, label=name).lines[-1].get_color()
        by_second.plot(history.elapsed, history.loss, color=colour, label=name)
    by_iteration.set(title="Cost by iteration", xlabel="iteration", ylabel="cross-entropy")
    by_second.set(title="Cost by second", xlabel="seconds of training")
    by_second.grid(alpha=0.25)
    by_iteration.legend(title="hidden units", frameon=False)
    save(figure, given.output / "activations.png")


if __name__ == "__main__":
    main()
