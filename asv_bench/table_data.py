"""Tables as a user has them: DataFrames with names, text, whole numbers and gaps, from files of FASTNN_DATA."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"  # where FASTNN_DATA does not say otherwise
SPLITS = 5  # random ones of each table
TEST_SHARE = 0.2
GIVEN = "given"  # the split that a table came with


class Table(NamedTuple):
    """
    frame : DataFrame (m, columns)
    y : array (m,) of 0 and 1, or of numbers
    classes : whether y are classes
    train : number of rows, the first ones, that the source trains on; None where it has no split of its own
    """

    frame: pd.DataFrame
    y: np.ndarray
    classes: bool
    train: int | None = None

    def splits(self):
        return [*range(SPLITS), *([GIVEN] if self.train else [])]

    def rows(self, split):
        """(rows to train on, rows to be judged by)."""
        if split == GIVEN:
            return np.arange(self.train), np.arange(self.train, len(self.y))
        order = np.random.default_rng(split).permutation(len(self.y))
        return np.split(order, [round((1 - TEST_SHARE) * len(order))])


def load(name):
    """The table of that name, one of NAMES."""
    return _LOADERS[name]()


def _arrays(name):
    return np.load(Path(os.environ.get("FASTNN_DATA", DATA)) / f"{name}.npz")


def _text(codes, vocabulary):
    """Words (m,) for codes, None where they are negative."""
    words = np.append(vocabulary.astype(object), None)
    return pd.Series(words[codes], dtype="str")


def _coded_frame(data, numbers, codes):
    """A frame of the columns of numbers and of codes, whose words stand in `vocab`."""
    frame = pd.DataFrame(numbers, columns=data["num_names"].tolist())
    for j, name in enumerate(data["cat_names"].tolist()):
        frame[name] = _text(codes[:, j], data["vocab"][slice(*data["vocab_offsets"][j : j + 2].tolist())])
    return frame


def _joined(data, name, parts):
    return np.concatenate([data[f"{name}_{part}"] for part in parts])


def _adult():
    data, parts = _arrays("adult_income"), ("train", "test")
    frame = _coded_frame(data, _joined(data, "X_num", parts), _joined(data, "X_cat", parts))
    return Table(frame, _joined(data, "y", parts), True, len(data["y_train"]))


def _california():
    data = _arrays("california_housing")
    frame = pd.DataFrame(data["X"], columns=data["feature_names"].tolist())
    frame["ocean_proximity"] = _text(data["ocean_proximity"], data["ocean_proximity_names"])
    return Table(frame, data["y"], False)


def _ames():
    data = _arrays("ames_housing")
    return Table(_coded_frame(data, data["X_num"], data["X_cat"]), np.log(data["y"]), False)


def _criteo_raw():
    data, parts = _arrays("criteo_raw_8k"), ("train", "dev", "test")
    frame = pd.DataFrame(_joined(data, "X_num", parts), columns=data["num_names"].tolist())
    codes, missing = _joined(data, "X_cat", parts), _joined(data, "cat_missing", parts)
    for j, name in enumerate(data["cat_names"].tolist()):
        frame[name] = pd.Series([f"{code:08x}" for code in codes[:, j]], dtype="str").mask(missing[:, j])
    y = _joined(data, "y", parts)
    return Table(frame, y, True, len(y) - len(data["y_test"]))


def _criteo_indexed():
    """Numbers of levels, which the source has made; their order means nothing, so they are text here."""
    data, parts = _arrays("criteo_indexed_20k"), ("train", "test")
    frame = pd.DataFrame(_joined(data, "X", parts).astype(str), columns=data["feature_names"].tolist())
    return Table(frame, _joined(data, "y", parts), True, len(data["y_train"]))


def _avazu():
    data, parts = _arrays("avazu_raw_9k"), ("train", "dev", "test")
    frame = pd.DataFrame(_joined(data, "X_int", parts), columns=data["int_names"].tolist())
    for name, codes in zip(data["hash_names"].tolist(), _joined(data, "X_hash", parts).T, strict=True):
        frame[name] = pd.Series([f"{code:08x}" for code in codes], dtype="str")
    y = _joined(data, "y", parts)
    return Table(frame, y, True, len(y) - len(data["y_test"]))


def _facebook():
    """Will an ad be clicked at all? By what is known before it is shown: ids, as numbers, and whom it is for."""
    data = _arrays("facebook_ads_1143")
    frame = pd.DataFrame({name: data[name] for name in ("ad_id", "xyz_campaign_id", "fb_campaign_id", "interest")})
    frame["age"] = _text(data["age"], data["age_names"])
    frame["gender"] = _text(data["gender"], data["gender_names"])
    return Table(frame, (data["clicks"] > 0).astype(np.uint8), True)


def _obd():
    """92 clicks in 20,000 rows: an AUC here is mostly chance."""
    data = _arrays("obd_clicks_20k")
    frame = pd.DataFrame({name: data[name] for name in ("seconds", "item_id", "position")})
    frame["campaign"] = _text(data["campaign"], data["campaign_names"])
    for name, codes in zip(data["user_feature_names"].tolist(), data["user_features"].T, strict=True):
        frame[name] = pd.Series(codes.astype(str), dtype="str")  # hashes in the source
    return Table(frame, data["click"], True)


_LOADERS = {
    "adult": _adult,
    "california": _california,
    "ames": _ames,
    "criteo raw": _criteo_raw,
    "criteo indexed": _criteo_indexed,
    "avazu": _avazu,
    "facebook": _facebook,
    "obd": _obd,
}
NAMES = tuple(_LOADERS)
