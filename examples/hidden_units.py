"""How many hidden units a flower takes: from logistic regression, which only knows lines, to 32 units that overfit.

Two classes lie on the petals of a flower, 400 points to learn from and 400 to judge by. The boundaries are those of
logistic regression and of nets with 4 and with 32 units.
"""

import numpy as np
from common import options, save
from matplotlib.figure import Figure

import fastnn

UNITS = (1, 2, 3, 4, 8, 16, 32)


def flower(points, seed, petals=4):
    """Points (points, 2) on two halves of the petals, and the number of the half of each."""
    rng = np.random.default_rng(seed)
    half = np.repeat([0, 1], points // 2)
    angle = rng.uniform(0, np.pi, points) + np.pi * half + rng.normal(0, 0.2, points)
    radius = petals * np.sin(4 * angle) + rng.normal(0, 0.2, points)
    return np.column_stack([radius * np.sin(angle), radius * np.cos(angle)]), half


def layers(units):
    """A net of one hidden layer."""
    return [fastnn.Dense(units, "tanh"), fastnn.Dense(1, "sigmoid")]


def main():
    """Fit every number of units from several starting weights, and draw scores and boundaries."""
    given = options(__doc__)
    train, test = flower(400, seed=0), flower(400, seed=1)
    settings = dict(optimizer=fastnn.Adam(0.02), epochs=20 if given.quick else 3000, batch_size=None)
    study = fastnn.units_study(layers, *train, test, UNITS, seeds=range(2 if given.quick else 10), **settings)
    for units, of_train, of_test in zip(study.units, study.train, study.test, strict=True):
        print(f"{units} units: training {np.median(of_train):.3f}, test {np.median(of_test):.3f}")

    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    study.plot(above.subplots()).set(title="Flower: accuracy by hidden units")
    nets = {"logistic regression": fastnn.logistic_net()}
    nets |= {f"{units} hidden units": fastnn.Sequential(layers(units)) for units in (4, 32)}
    for (name, net), ax in zip(nets.items(), below.subplots(1, 3, sharey=True), strict=True):
        net.fit(*train, **settings)
        accuracy = net.evaluate(*train)["accuracy"]
        remark = ":\nno line separates the petals" if name.startswith("logistic") else ":\non the training points"
        print(f"{name}: training {accuracy:.3f}, test {net.evaluate(*test)['accuracy']:.3f}")
        fastnn.plot.decision_boundary(net, *train, ax)
        ax.set(title=f"{name}, {accuracy:.1%}{remark}")
        ax.label_outer()
        ax.get_legend().remove()
        for points in ax.collections[-2:]:
            points.set(sizes=[6], linewidths=0)
    save(figure, given.output / "hidden_units.png")


if __name__ == "__main__":
    main()
