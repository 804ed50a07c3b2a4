"""Who clicks which ad? The classic model of clicks on ids, and a net with learned vectors, beside the truth.

The clicks are made up: each ad and each site has a pull of its own, and ads that suit the age of the user are clicked
more often. Logistic regression on one-hot codes cannot know the last; a net can. Ids that were never seen share a row.
"""

import numpy as np
from common import options, panels, save
from sklearn.metrics import log_loss, roc_auc_score

import fastnn
from fastnn.plot import COLOURS

ADS, SITES = 60, 400


def clicks(rows, seed=0):
    """(table, clicked or not, the true chance of each row)."""
    fixed, rng = np.random.default_rng(9), np.random.default_rng(seed)
    pull_of_ad, pull_of_site = fixed.normal(0, 0.6, ADS), fixed.normal(0, 0.5, SITES)
    best_age = fixed.uniform(15, 75, ADS)
    ad, site = rng.integers(0, ADS, rows), (rng.zipf(1.3, rows) - 1) % SITES  # few sites have most of the users
    age = rng.uniform(15, 75, rows)
    suits = 2.5 * np.exp(-(((age - best_age[ad]) / 12) ** 2))
    chance = 1 / (1 + np.exp(3.5 - pull_of_ad[ad] - pull_of_site[site] - suits))
    age = np.where(rng.random(rows) < 0.15, np.nan, age.round())  # users who do not say
    table = {"ad_id": ad + 900_000, "site": [f"site-{one}.example" for one in site], "age": age}
    return table, rng.random(rows) < chance, chance


def main():
    """Train both models, score them, and draw the chance of a click by age for two ads."""
    given = options(__doc__)
    table, clicked, _ = clicks(2_000 if given.quick else 60_000)
    test, test_clicked, chance = clicks(2_000 if given.quick else 20_000, seed=1)
    age = fastnn.Number(bins=12)
    codes = fastnn.Columns(ad_id=fastnn.Code(), site=fastnn.Code(), age=age)
    vectors = fastnn.Columns(ad_id=fastnn.Code(dim=8), site=fastnn.Code(dim=8, least=20), age=age)
    linear = fastnn.logistic_net(columns=codes)
    net = fastnn.Sequential([vectors, fastnn.Dense(32, "relu"), fastnn.Dense(1, "sigmoid")])
    settings = dict(epochs=1 if given.quick else 12, batch_size=256, validation_split=0.1)
    for name, model in (("logistic regression", linear), ("net with vectors", net)):
        stop = fastnn.EarlyStopping(patience=3)
        model.fit(table, clicked, optimizer=fastnn.Adam(3e-3), callbacks=[stop], **settings)
        found = model.predict(test)[:, 0]
        print(f"{name}: AUC {roc_auc_score(test_clicked, found):.4f}, log loss {log_loss(test_clicked, found):.4f}")
    best = roc_auc_score(test_clicked, chance), log_loss(test_clicked, chance)
    print(f"the true chances: AUC {best[0]:.4f}, log loss {best[1]:.4f}")
    new = {
        "ad_id": [900_003, 123, 123],
        "site": ["site-0.example", "site-0.example", "new.example"],
        "age": [30, 30, None],
    }
    print(f"a known ad, a new one, all new: {', '.join(f'{one:.3f}' for one in net.predict(new)[:, 0])}")

    figure, axes = panels(2, width=10, sharey=True)
    years = np.arange(15.0, 76.0)
    for ax, ad in zip(axes, (900_003, 900_019), strict=True):
        users = {"ad_id": np.full(len(years), ad), "site": ["site-0.example"] * len(years), "age": years}
        same = np.isin(test["ad_id"], ad)
        ax.plot(np.nan_to_num(test["age"])[same], chance[same], ".", color="lightgrey", label="truth, on all sites")
        for model, colour, name in ((linear, COLOURS[1], "logistic regression"), (net, COLOURS[0], "net with vectors")):
            ax.plot(years, model.predict(users)[:, 0], color=colour, label=f"{name}, on site-0")
        ax.set(title=f"Ad {ad}", xlabel="age of the user", xlim=(14, 76))
    axes[0].set_ylabel("chance of a click")
    axes[1].legend(fontsize=8)
    save(figure, given.output / "clicks.png")


if __name__ == "__main__":
    main()
