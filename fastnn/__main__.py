"""The command line, `python -m fastnn` or `fastnn`: by default a real training run with its plots."""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

import fastnn

from . import backends

REPORTS = 8  # lines of falling cost for each net


def digits(test_share=0.25, seed=0):
    """scikit-learn's digits (1,797 images of 8 x 8 pixels), pixels in [0, 1]: (X, y) to train on, (X, y) to test on."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(X))
    cut = int(len(X) * (1 - test_share))
    train, test = order[:cut], order[cut:]
    return (X[train] / 16, y[train]), (X[test] / 16, y[test])


def planar_flower(points=400, petals=4, seed=1):
    """Two classes that spiral along the petals of a flower, after the recipe of the deep-learning courses."""
    random = np.random.RandomState(seed)
    half = points // 2
    X, y = np.zeros((points, 2)), np.zeros(points)
    for label in range(2):
        rows = slice(half * label, half * (label + 1))
        angle = np.linspace(label * 3.12, (label + 1) * 3.12, half) + random.randn(half) * 0.2
        radius = petals * np.sin(4 * angle) + random.randn(half) * 0.2
        X[rows] = np.c_[radius * np.sin(angle), radius * np.cos(angle)]
        y[rows] = label
    return X, y


def train(name, net, optimizer, epochs, train_data, test_data, threads):
    """Fit one net, report its cost and accuracy, and give its history."""
    X, y = train_data
    print(f"\n{name}: {net.layers}")
    history = net.fit(
        X,
        y,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=32,
        progress=True,
        validation_data=test_data,
        threads=threads,
    )
    print(f"{'epoch':>8}{'cost':>12}{'test cost':>12}")
    for epoch in np.unique(np.linspace(0, epochs - 1, REPORTS).astype(int)):
        print(f"{epoch:>8}{history.loss[epoch]:>12.6f}{history.validation_loss[epoch]:>12.6f}")
    accuracy = [net.evaluate(*data)["accuracy"] for data in (train_data, test_data)]
    print(f"train accuracy {accuracy[0]:.2%}, test accuracy {accuracy[1]:.2%}")
    print(f"{history.steps:,} steps in {history.seconds:.3f} s: {history.microseconds_per_step:.1f} us a step")
    return history


def draw(path, panels):
    """Panels side by side in one picture: (title, function that draws into Axes)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(panels), 4.4), layout="constrained")
    for axes, (title, panel) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        panel(axes)
        axes.set_title(title)
        axes.label_outer()
    figure.savefig(path, dpi=120)


def parsed(arguments=None):
    """Options of the command line; without a command it is `run`."""
    parser = argparse.ArgumentParser(
        prog="python -m fastnn",
        description="Train nets, and measure and prepare this machine. Without a COMMAND it is run.",
        epilog="COMMAND --help shows the options of one.",
    )
    parser.add_argument("--version", action="version", version=f"fastnn {fastnn.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    made = {name: commands.add_parser(name, help=text, description=text) for name, (_, text) in COMMANDS.items()}
    threads = {"type": int, "help": "threads that may take part (default: all cores)"}
    made["run"].add_argument("--output", type=Path, default=Path("."), help="folder for the pictures (default: here)")
    made["run"].add_argument("--epochs", type=int, default=100, help="epochs of both nets on the digits (default: 100)")
    for name in ("run", "bench"):
        made[name].add_argument("--threads", **threads)
    for name in ("bench", "devices"):
        made[name].add_argument("--json", action="store_true", help="JSON instead of a table")
    made["warmup"].add_argument("--dtype", choices=("float32", "float64"), help="this one (default: both)")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    named = arguments and (arguments[0] in ("-h", "--help", "--version") or not arguments[0].startswith("-"))
    return parser.parse_args(arguments if named else ["run", *arguments])


def main(arguments=None):
    """Run the command; gives the exit status."""
    options = parsed(arguments)
    return COMMANDS[options.command][0](options)


def run(options):
    """Train on real data, where all that it takes is installed."""
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
        import tqdm  # noqa: F401
    except ImportError as error:
        print(f"{error.name} is missing: {backends.pip_install('demo')}", file=sys.stderr)
        return 1
    demonstrate(options)
    return 0


def measure(options):
    """Time steps and products."""
    from . import bench

    result = bench.run(options.threads)
    print(json.dumps(result, indent=1) if options.json else bench.table(result))
    return 0


def devices(options):
    """Measure where a GPU wins."""
    try:
        result = fastnn.measure_devices(progress=not options.json)
    except (ImportError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(result, indent=1))
    return 0


def warmup(options):
    """Compile, and tell where to."""
    fastnn.warmup(options.dtype or ("float32", "float64"))
    print(dict(backends.cpu_facts())["kernel cache"])
    return 0


def versions(options):
    """Tell what a bug report should hold."""
    fastnn.show_versions()
    return 0


COMMANDS = {
    "run": (run, "train nets on real data, report on them and draw two pictures"),
    "bench": (measure, "measure how fast this machine trains, in under a minute"),
    "devices": (devices, "measure from which work on nets with device='auto' take the GPU; takes minutes"),
    "warmup": (warmup, "only compile the kernels into the cache, for images and clusters"),
    "versions": (versions, "show versions and machine, as a bug report should"),
}


def demonstrate(options):
    """Train on real data, and draw what came of it."""
    fastnn.show_versions()
    training, test = digits()
    print(f"\nscikit-learn's digits: {len(training[0]):,} images to train on, {len(test[0]):,} to test on")
    logistic = fastnn.logistic_net(n_classes=10)
    deep = fastnn.Sequential([fastnn.Dense(64, "relu"), fastnn.Dense(32, "relu"), fastnn.Dense(10, "softmax")])
    histories = {
        name: train(name, net, optimizer, options.epochs, training, test, options.threads)
        for name, net, optimizer in (
            ("logistic regression", logistic, fastnn.SGD(0.1, momentum=0.9)),
            ("deep net", deep, fastnn.Adam(fastnn.CosineDecay(1e-3, options.epochs))),
        )
    }

    X, y = planar_flower()
    flower = {
        "logistic regression": fastnn.logistic_net(),
        "2-4-1 net": fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(1, "sigmoid")], seed=2),
    }
    remarks = {"logistic regression": "no line separates the petals", "2-4-1 net": "four units bend the boundary"}
    print("\nplanar flower, 400 points, full batch")
    for name, net in flower.items():
        history = net.fit(X, y, optimizer=fastnn.SGD(1.2), epochs=10_000, batch_size=None)
        accuracy, speed = net.evaluate(X, y)["accuracy"], history.microseconds_per_step
        print(f"{name}: accuracy {accuracy:.2%} ({remarks[name]}), {speed:.1f} us a step")

    options.output.mkdir(parents=True, exist_ok=True)
    curves, boundaries = options.output / "learning_curve.png", options.output / "decision_boundary.png"
    draw(curves, [(f"Digits: {name}", history.plot) for name, history in histories.items()])
    titles = {
        name: f"{name}: accuracy {net.evaluate(X, y)['accuracy']:.1%},\n{remarks[name]}" for name, net in flower.items()
    }
    draw(
        boundaries, [(titles[name], partial(fastnn.plot.decision_boundary, net, X, y)) for name, net in flower.items()]
    )
    print(f"\nwrote {curves} and {boundaries}")


if __name__ == "__main__":
    sys.exit(main())
