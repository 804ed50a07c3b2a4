"""The comparison on tables: its data, its splits, a method, and what it writes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import recipes

pytest.importorskip("pandas")
pytest.importorskip("sklearn")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the comparison is for Linux")


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "asv_bench")
    import tables

    return tables


def loaded(tables, name, file):
    if not (recipes.data_directory() / f"{file}.npz").exists():
        pytest.skip(f"no {file}.npz in {recipes.data_directory()} (set FASTNN_DATA)")
    return tables.table_data.load(name)


@pytest.mark.parametrize(("name", "file"), [("ames", "ames_housing"), ("avazu", "avazu_raw_9k")])
def test_a_split_is_a_partition_and_another_one_differs(tables, name, file):
    table = loaded(tables, name, file)
    seen = [np.concatenate(table.rows(split)) for split in table.splits()]
    for rows in seen:
        np.testing.assert_array_equal(np.sort(rows), np.arange(len(table.frame)))
    assert len(seen) == 5 + (name == "avazu")
    assert (seen[0] != seen[1]).any()


def test_a_frame_is_as_a_user_has_it(tables):
    table = loaded(tables, "adult", "adult_income")
    assert table.frame.loc[0, "education"] == "Bachelors" and table.frame.loc[0, "age"] == 39
    assert table.frame["workclass"].isna().sum() == 2799  # "?" in the source, both halves
    assert table.train == 32561 and table.y[: table.train].mean() == pytest.approx(0.2408, abs=1e-4)


def test_a_method_learns_and_is_measured(tables):
    import table_methods

    loaded(tables, "facebook", "facebook_ads_1143")
    found = table_methods.Runner("scikit-learn MLP").score("facebook", 0)
    assert 0.7 < found["auc"] < 0.9 and 0.7 < found["accuracy"] < 0.9 and 0.3 < found["log_loss"] < 0.7
    assert found["fit_seconds"] > 0


def test_categories_are_those_of_the_rows_that_were_learned(tables):
    import pandas as pd
    from table_methods import Categories

    learned = Categories(pd.DataFrame({"town": ["Wien", "Graz", "Wien", None], "size": [1, 2, 3, 4]}), most=1)
    found = learned(pd.DataFrame({"town": ["Graz", "Wien", None], "size": [1, 2, 3]}))
    assert found["town"].isna().tolist() == [True, False, True]  # one level is kept, the most frequent one
    assert found["size"].tolist() == [1, 2, 3]


def test_results_are_kept_one_by_one_and_reported(tables, tmp_path):
    file = tmp_path / "tables.json"
    for split, auc in enumerate((0.7, 0.9, 0.8)):
        tables.keep(file, tables.key("adult", "LightGBM", split), {"auc": auc, "fit_seconds": 2.0})
    tables.keep(file, tables.key("adult", "RealMLP", 0), {"auc": 0.6, "fit_seconds": 50.0})
    tables.keep(file, tables.key("ames", "RealMLP", "given"), {"rmse": 0.125, "fit_seconds": 5.0})
    assert [path.name for path in tmp_path.iterdir()] == ["tables.json"]  # no drafts
    assert len(json.loads(file.read_text())["results"]) == 5
    text = tables.markdown(tables.read(file))
    line = next(line for line in text.splitlines() if line.startswith("| adult, AUC"))
    cells = dict(zip(tables.METHODS, line.split(" | ")[1:], strict=True))
    assert cells["LightGBM"] == "**0.8000** (3)" and cells["RealMLP"].startswith("0.6000 (1)")
    assert cells["scikit-learn MLP"] == "–"
    tables.keep(file, tables.key("adult", "fastnn", 1), {"auc": 0.8, "fit_seconds": 1.0})  # counts this split alone
    line = next(line for line in tables.markdown(tables.read(file)).splitlines() if line.startswith("| adult, AUC"))
    assert line == "| adult, AUC | 0.8000 (1) | **0.9000** (1) | – | – | – |"
    assert "**0.1250**" in text.split("The split that the table came with:")[1]
