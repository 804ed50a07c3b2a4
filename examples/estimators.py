"""The estimators in scikit-learn's pipelines: bicycles rented in an hour, by its time, temperature, weather and day.

The data are made up, so that what was learned can be compared with the truth. A net for counts learns the rate; a net
and logistic regression learn whether an hour is busy. scikit-learn draws partial dependence and calibration.
"""

import numpy as np
import pandas as pd
from common import options, panels, save
from sklearn.calibration import CalibrationDisplay
from sklearn.compose import ColumnTransformer
from sklearn.inspection import PartialDependenceDisplay
from sklearn.metrics import brier_score_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fastnn.plot import COLOURS
from fastnn.sklearn import LogisticRegression, MLPClassifier, MLPRegressor

WEATHER = {"sun": 1.0, "cloud": 0.8, "rain": 0.35}  # share of the rentals of a sunny hour
BUSY = 50


def rate(table):
    """Expected rentals of each row."""
    hour, warmth = table["hour"], 0.3 + 0.7 * np.exp(-(((table["temperature"] - 24) / 12) ** 2))
    workday = 160 * np.exp(-((hour - 8) ** 2) / 3) + 200 * np.exp(-((hour - 17.5) ** 2) / 5)
    other = 150 * np.exp(-((hour - 14) ** 2) / 20)
    return (15 + np.where(table["day"] == "workday", workday, other)) * warmth * table["weather"].map(WEATHER)


def rentals(hours, seed=0):
    """(table, counts)."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "hour": rng.uniform(0, 24, hours),
            "temperature": rng.normal(16, 8, hours),
            "weather": rng.choice(list(WEATHER), hours, p=[0.5, 0.3, 0.2]),
            "day": rng.choice(["workday", "weekend"], hours, p=[5 / 7, 2 / 7]),
        }
    )
    return table, rng.poisson(rate(table))


def fitted(model, table, y):
    """A pipeline from the table to the model's answers."""
    numbers, names = ["hour", "temperature"], ["weather", "day"]
    columns = ColumnTransformer([("numbers", StandardScaler(), numbers), ("names", OneHotEncoder(), names)])
    return make_pipeline(columns, model).fit(table, y)


def true_dependence(table, hours):
    """The mean of the true rate over the rows, for each hour."""
    return [rate(table.assign(hour=hour)).mean() for hour in hours]


def main():
    """Fit three estimators, and draw what they learned."""
    given = options(__doc__)
    table, counts = rentals(600 if given.quick else 8000)
    train, test, y_train, y_test = train_test_split(table, counts, random_state=0)
    settings = {"hidden_layer_sizes": (64, 64), "learning_rate_init": 3e-3, "random_state": 0, "early_stopping": True}
    settings |= {"n_iter_no_change": 1 if given.quick else 20}
    count = fitted(MLPRegressor("poisson", **settings), train, y_train)
    print(f"rentals: R2 {count.score(test, y_test):.3f}, of the true rate {count.score(test, rate(test)):.3f}")

    figure, (left, middle, right) = panels(3, width=12.6)
    some = test[:200]
    drawn = {"kind": "average", "line_kw": {"color": COLOURS[0], "label": "net"}}
    PartialDependenceDisplay.from_estimator(
        count, some, ["hour", "weather"], categorical_features=["weather"], ax=[left, middle], **drawn
    )
    hours = np.linspace(*left.get_xlim(), 100)
    left.plot(hours, true_dependence(some, hours), "--", color=COLOURS[1], label="truth")
    left.set(title="Rentals by hour", ylabel="mean over the other columns", ylim=(0, 120))
    left.legend(frameon=False)
    middle.set(title="Rentals by weather", ylabel="", ylim=(0, 120))
    models = {"net": MLPClassifier(**settings), "logistic regression": LogisticRegression()}
    for (name, model), colour in zip(models.items(), COLOURS, strict=False):
        busy = fitted(model, train, y_train > BUSY)
        brier = brier_score_loss(y_test > BUSY, busy.predict_proba(test)[:, 1])
        print(f"{name}: accuracy {busy.score(test, y_test > BUSY):.3f}, Brier score {brier:.4f}")
        line = {"n_bins": 8, "strategy": "quantile", "name": name, "color": colour}
        CalibrationDisplay.from_estimator(busy, test, y_test > BUSY, ax=right, **line)
    right.set(title=f"More than {BUSY} rentals", xlabel="predicted probability", ylabel="share of such hours")
    save(figure, given.output / "estimators.png")


if __name__ == "__main__":
    main()
