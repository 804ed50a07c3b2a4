"""From a CSV file to a saved model: houses that were sold, with gaps, text and dates, and what they cost.

The file is made up, so that what was learned can be compared with the truth: a price grows with the size, by a share
that depends on the postal code, rises from year to year, and depends on the heating.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from common import options, panels, save
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

import fastnn
from fastnn.plot import COLOURS

PER_METRE = {"1010": 9000, "1070": 6500, "2340": 4200, "3400": 3100, "8010": 3600, "9020": 2700}
HEATING = {"gas": 0.0, "oil": -0.06, "heat pump": 0.08}
RISE = 0.05  # a year


def true_price(table):
    """The expected price of each row, from a table without gaps."""
    years = (pd.to_datetime(table["sold"]) - pd.Timestamp("2015-01-01")).dt.days / 365.25
    worth = table["size"] * table["postcode"].map(PER_METRE) * (1 + table["heating"].map(HEATING))
    return worth * (1 + RISE) ** years


def write_csv(path, rows, seed=0):
    """A file of sales, as somebody might have kept it; gives the table without gaps."""
    rng = np.random.default_rng(seed)
    days = pd.to_timedelta(rng.integers(0, 3650, rows), "D")
    table = pd.DataFrame(
        {
            "sold": (pd.Timestamp("2015-01-01") + days).strftime("%Y-%m-%d"),
            "postcode": rng.choice(list(PER_METRE), rows),
            "size": rng.gamma(8, 12, rows).round(),
            "heating": rng.choice(list(HEATING), rows),
        }
    )
    price = (true_price(table) * rng.lognormal(0, 0.1, rows)).round(-3)
    gaps = table.assign(price=price)
    gaps.loc[rng.random(rows) < 0.1, "size"] = np.nan
    gaps.loc[rng.random(rows) < 0.2, "heating"] = None
    gaps.to_csv(path, index=False)
    return table


def by_postcode(model):
    """What a house of 100 square metres costs in each postal code, as the model and the formula have it."""
    houses = pd.DataFrame({"sold": "2020-01-01", "postcode": list(PER_METRE), "size": 100.0, "heating": "gas"})
    return np.exp(model.predict(houses)[:, 0]), true_price(houses)


def main():
    """Read the file, train, judge, save, and draw what was learned."""
    given = options(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "houses.csv", 300 if given.quick else 4000)
        table = pd.read_csv(Path(folder) / "houses.csv", dtype={"postcode": str})
        train, test = train_test_split(table, random_state=0)
        columns = fastnn.Columns.infer(train, target="price")
        print(columns.summary())
        preset = fastnn.preset("table", epochs=2 if given.quick else 40)
        model = preset.fit(train, np.log(train["price"]), columns)
        model.save(Path(folder) / "houses.safetensors")
        model = fastnn.load(Path(folder) / "houses.safetensors")
    predicted = np.exp(model.predict(test)[:, 0])
    whole = test.notna().all(axis=1).to_numpy()
    for name, rows in (("all test rows", slice(None)), ("without gaps", whole), ("with gaps", ~whole)):
        off = abs(predicted / test["price"] - 1)[rows].median()
        print(f"{name}: R2 {r2_score(test['price'][rows], predicted[rows]):.3f}, half within {off:.1%}")

    figure, (left, right) = panels(2, width=10)
    left.plot(test["price"] / 1e3, predicted / 1e3, ".", color=COLOURS[0], markersize=3)
    left.axline((0, 0), slope=1, color="grey", linewidth=1)
    left.set(xlabel="price in thousands", ylabel="prediction in thousands", title="Houses that were not trained on")
    learned, true = by_postcode(model)
    places = np.arange(len(PER_METRE))
    right.bar(places - 0.2, learned / 1e3, 0.4, color=COLOURS[0], label="model")
    right.bar(places + 0.2, true / 1e3, 0.4, color=COLOURS[1], label="truth")
    right.set_xticks(places, list(PER_METRE))
    right.set(xlabel="postal code", ylabel="price in thousands", title="100 square metres, gas, in January 2020")
    right.legend()
    save(figure, given.output / "houses.png")


if __name__ == "__main__":
    main()
