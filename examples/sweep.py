"""Which learning rate, which width? A sweep: every combination, each from several starting weights, in one call.

The nets learn scikit-learn's digits, and are judged on a quarter of the images. `--compare` also lets GridSearchCV try
the same combinations, with the estimators of scikit-learn and with those of fastnn.sklearn.
"""

import sys
import time
import warnings

from common import options, panels, save
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.neural_network import MLPClassifier

import fastnn.sklearn

RATES, WIDTHS, SEEDS = (0.004, 0.02, 0.1, 0.5), (8, 32, 128), range(5)
HIDDEN, BATCH, HELD_OUT = 4, 32, 0.25


def layers(width):
    """A net with hidden layers of one width."""
    hidden = fastnn.Dense(width, "relu", kernel_initializer="he_normal")
    return [*[hidden] * HIDDEN, fastnn.Dense(10, "softmax")]


def compare(X, y, epochs):
    """Let GridSearchCV train as many nets, of the same layers, rates, batches and epochs."""
    warnings.simplefilter("ignore")  # that nets have not converged, or diverged
    settings = dict(solver="sgd", momentum=0.0, alpha=0.0, batch_size=BATCH, max_iter=epochs, tol=0.0)
    settings["n_iter_no_change"] = epochs  # all epochs
    sizes = [(width,) * HIDDEN for width in WIDTHS]
    grid = dict(learning_rate_init=RATES, hidden_layer_sizes=sizes, random_state=SEEDS)
    for kind in (fastnn.sklearn.MLPClassifier, MLPClassifier):
        search = GridSearchCV(
            kind(**settings), grid, cv=ShuffleSplit(1, test_size=HELD_OUT, random_state=0), refit=False
        )
        start = time.perf_counter()
        search.fit(X, y)
        seconds, best = time.perf_counter() - start, search.best_params_
        found = f"rate {best['learning_rate_init']}, width {best['hidden_layer_sizes'][0]}, {search.best_score_:.3f}"
        print(f"GridSearchCV over {kind.__module__.partition('.')[0]}: best {found}, {seconds:.1f} seconds")


def main():
    """Train all nets, print the best, and draw the cost of each by epoch."""
    given = options(__doc__, compare="time scikit-learn's GridSearchCV beside it")
    X, y = load_digits(return_X_y=True)
    X, epochs = X / 16, 3 if given.quick else 20
    sweep = fastnn.Sweep(layers, width=WIDTHS, optimizer=fastnn.SGD, learning_rate=RATES, batch_size=BATCH, seed=SEEDS)
    sweep.fit(X, y, epochs=1)  # compiles
    bar = sys.stderr.isatty()
    result = sweep.fit(X, y, epochs=epochs, validation_split=HELD_OUT, progress=bar)

    diverged = sum(trial.diverged for trial in result.trials)
    print(f"{len(result.trials)} nets in {result.seconds:.2f} seconds, {diverged} diverged")
    print(result.to_dataframe()[["width", "learning_rate", "seed", "accuracy", "loss"]].head(8).to_string(index=False))
    for rate in RATES:
        scores = [trial.score for trial in result.trials if trial.learning_rate == rate and not trial.diverged]
        print(f"rate {rate}: {len(scores)} nets to the end, best accuracy {max(scores):.3f}")
    if given.compare:
        compare(X, y, epochs)

    figure, ax = panels()
    result.plot(by="learning_rate", ax=ax)
    ax.set(title=f"Cost of {len(result.trials)} nets", ylabel="cross-entropy", ylim=(2e-3, 10))
    save(figure, given.output / "sweep.png")


if __name__ == "__main__":
    main()
