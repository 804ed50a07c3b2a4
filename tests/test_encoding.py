"""What is learned of training rows, and the matrix that is made of a table, against slow and obvious twins."""

import datetime
import hashlib
import json
import pickle
import struct

import numpy as np
import pytest
from sample_tables import FORMS, KINDS, table
from subprocesses import python

import fastnn
from fastnn import Code, Columns, Date, Number, frames
from fastnn.encoding import Encoding, learn
from fastnn.kernels.program import Bins, Embedding, Missing, OneHot, Plain, Vector

COLUMNS = Columns(price=Number(bins=4), city=Code(), ad=Code(dim=3), paid=Code(), when=Date())
nan, inf = float("nan"), float("inf")


def learned(columns, data, rows=None, weights=None, dtype="float32"):
    return learn(columns, frames.table("X", data), rows, weights, dtype)


def encoded(encoding, data, dtype="float32", finite=False):
    return encoding.encode(frames.table("X", data), dtype, finite)


def one(column, cells, other, dtype="float64", **settings):
    """The matrix (m,) of a single column that learned from cells, for other cells."""
    return encoded(learned(Columns(a=column), {"a": cells}, dtype=dtype, **settings), {"a": other}, dtype)[:, 0]


@pytest.mark.parametrize("form", KINDS)
def test_every_form_of_a_table_gives_the_same_matrix(form, dtype):
    columns = table()
    expected = learned(COLUMNS, columns, dtype=dtype)
    X = encoded(expected, columns, dtype)
    assert X.dtype == dtype and X.flags.c_contiguous and X.shape == (200, expected.n_features)
    assert expected.feature_names == (
        *("price", "city", "ad", "paid"),
        *("when.elapsed", "when.month", "when.day", "when.weekday", "when.hour"),
    )
    found = learned(COLUMNS, FORMS[form](columns), dtype=dtype)
    assert found == expected
    np.testing.assert_array_equal(encoded(found, FORMS[form](columns), dtype), X)


def test_columns_are_known_by_name():
    columns = table()
    encoding = learned(COLUMNS, columns)
    assert encoding.names == ("price", "city", "ad", "paid", "when")
    shuffled = {name: columns[name] for name in ("when", "ad", "price", "paid", "city")}
    shuffled = {"more": [[]] * 200} | shuffled
    np.testing.assert_array_equal(encoded(encoding, shuffled), encoded(encoding, columns))
    del shuffled["ad"]
    with pytest.raises(ValueError, match="X must be a table with the column 'ad'; got one with "):
        encoded(encoding, shuffled)


def test_numbers_are_standardised_in_float64(dtype):
    x = 1.7e9 + np.arange(100.0) ** 1.5
    x[7] = nan
    present = np.delete(x, 7)
    expected = (x - present.mean()) / present.std()
    np.testing.assert_allclose(one(Number(), x, x, dtype), expected, atol=1e-6 if dtype == "float32" else 1e-8)
    encoding = learned(Columns(a=Number()), {"a": x})
    assert encoding.features() == (Plain(0), Missing(0))
    assert learned(Columns(a=Number()), {"a": present}).features() == (Plain(0),)


def test_robust_scaling_keeps_outliers_near():
    x = np.append(np.arange(101.0), 1e9)
    z = (x - 50) / 51  # of 102 numbers the quartiles are the 26th and the 77th
    found = one(Number(scaling="robust"), x, x)
    np.testing.assert_allclose(found, z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-12)
    far = one(Number(scaling="robust"), x, [inf, -inf, 1e300, None])
    np.testing.assert_allclose(far, [3, -3, 3, nan])
    few = np.append(np.zeros(9), 4.0)  # quartiles that are one
    np.testing.assert_allclose(one(Number(scaling="robust"), few, [4.0]), 2 / np.sqrt(1 + 4 / 9))


def test_bins_have_equal_shares_of_rows_and_of_distinct_values(dtype):
    x = np.array([0.0] * 60 + [1, 2, 3, 4] * 5 + [100.0] * 20)
    encoding = learned(Columns(a=Number(bins=4)), {"a": x}, dtype=dtype)
    plain, bins = encoding.features()
    assert plain == Plain(0) and isinstance(bins, Bins) and bins.source == 0
    in_rows, in_values = [0, 0, 0, 3, 100], [0, 1, 2, 4, 100]
    matrix = {value: z for value, z in zip(x, encoded(encoding, {"a": x}, dtype)[:, 0], strict=True)}
    assert bins.edges.tolist() == sorted(float(matrix[value]) for value in {*in_rows, *in_values})
    assert bins.edges.dtype == np.float64 and (np.diff(bins.edges) > 0).all()


def test_bins_that_no_dtype_can_tell_apart_are_joined():
    x = np.append(np.zeros(50), [1e-12, 1.0, 2.0])
    edges = {dtype: learned(Columns(a=Number(bins=50)), {"a": x}, dtype=dtype) for dtype in ("float32", "float64")}
    sizes = [edges[dtype].features()[1].size for dtype in edges]
    assert sizes == [2, 3]


def test_a_number_that_never_changes_is_no_feature():
    data = {"a": [3.0, 3.0, 3.0], "b": [1, None, 1], "c": [None, None, None], "d": [1, 2, 3]}
    columns = Columns(a=Number(bins=3), b=Number(), c=Number(), d=Number())
    encoding = learned(columns, data)
    assert encoding.features() == (Missing(1), Plain(3))
    np.testing.assert_array_equal(encoded(encoding, data)[:, :3], [[0, 0, nan], [0, nan, nan], [0, 0, nan]])
    with pytest.raises(ValueError, match="X must be a table with a column that is not always the same; got none"):
        learned(Columns(a=Number(), c=Number()), data)


def codes_of(cells, least):
    """A slow and obvious dict from each level to its code."""
    counts = {cell: cells.count(cell) for cell in cells if cell is not None}
    return {level: code for code, level in enumerate(sorted(c for c in counts if counts[c] >= least), 2)}


LEVELS = {
    "text": ["b", "a", "b", None, "a", "c", "é\ud800", "é\ud800"],
    "whole": [7, -3, 7, None, 2**62 + 1, 2**62 + 1, 2**62 + 2, -3],
    "booleans": [True, False, None, True, True, False, True, True],
    "floats": [0.5, 0.5, -1.0, None, 3.0, 3.0, -1.0, 9.25],
}


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("least", [None, 1, 2, 3])
def test_levels(kind, least):
    cells, column = LEVELS[kind], Code(dim=4, least=least)
    known = codes_of(cells, least or 2)
    encoding = learned(Columns(a=column), {"a": cells})
    assert encoding.levels("a") == list(known)
    assert encoding.features() == (Vector(0, len(known) + 2, 4),)
    expected = [1 if cell is None else known.get(cell, 0) for cell in cells]
    assert encoded(encoding, {"a": cells})[:, 0].tolist() == expected
    if kind != "booleans":  # which are never unseen
        unseen = {"text": "zzz", "whole": 8, "floats": 0.75}[kind]
        assert encoded(encoding, {"a": [unseen, cells[0], None]})[:, 0].tolist() == [0, known.get(cells[0], 0), 1]
    assert learned(Columns(a=Code(least=least)), {"a": cells}).features() == (OneHot(0, len(known) + 2),)


def test_many_whole_numbers_are_found():
    rng = np.random.default_rng(0)
    for levels in (np.arange(3), rng.integers(-(2**63), 2**63 - 1, 3000), rng.integers(-50, 50, 90)):
        cells = np.concatenate([levels, levels])
        encoding = learned(Columns(a=Code()), {"a": cells})
        known = {level: code for code, level in enumerate(np.unique(levels).tolist(), 2)}
        asked = np.concatenate([levels, rng.integers(-(2**63), 2**63 - 1, 500), rng.integers(-60, 60, 500)])
        expected = [known.get(value, 0) for value in asked.tolist()]
        assert encoded(encoding, {"a": asked})[:, 0].tolist() == expected


def test_whole_numbers_may_stand_as_floats_and_booleans():
    gaps = [3.0, nan, 4.0, 3.0, 4.0]  # as pandas makes of whole numbers with gaps
    assert one(Code(), gaps, [3, 4, 5]).tolist() == [2, 3, 0]
    assert one(Code(), [3, 4, 3, 4], [3.0, 3.5, inf, nan]).tolist() == [2, 0, 0, 1]
    assert one(Code(), [0.5, 2.0] * 2, [2, 1]).tolist() == [3, 0]
    assert one(Code(), [True, False] * 2, [1, 0, 7]).tolist() == [3, 2, 0]
    assert one(Number(), [True, False], [True, False]).tolist() == [1, -1]


def test_an_empty_column_of_codes_takes_anything():
    for other in (["x"], [3], [None]):
        for column in (Code(), Code(hash=5)):
            code = one(column, [None, None], other)[0]
            assert code == 1 if other == [None] else code in ((0,) if column.hash is None else range(2, 7))


HASHED = {"a": ["Bern", "Zug", "", "ä"], "b": [1, -5, 2**62, None], "c": [0.5, 1.0, None, 2.0]}
BUCKETS = Columns(a=Code(hash=4096), b=Code(hash=4096), c=Code(dim=2, hash=10**6))


def hash_of(value):
    """Of 64 bits: of text by BLAKE2b, of numbers by splitmix64, in whole numbers of Python."""
    if isinstance(value, str):
        return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little")
    whole = struct.pack("<q", int(value)) if value == int(value) else struct.pack("<d", value)
    bits, limit = int.from_bytes(whole, "little") + 0x9E3779B97F4A7C15, 1 << 64
    bits = ((bits % limit) ^ (bits % limit >> 30)) * 0xBF58476D1CE4E5B9 % limit
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % limit
    return bits ^ (bits >> 31)


def test_hashes_are_the_same_everywhere():
    assert hash_of(0) == 0xE220A8397B1DCDAF  # as published
    encoding = learned(BUCKETS, HASHED, dtype="float64")
    assert encoding.features() == (OneHot(0, 4098), OneHot(1, 4098), Vector(2, 10**6 + 2, 2))
    X = encoded(encoding, HASHED, "float64")
    for name, codes in zip(HASHED, X.T, strict=True):
        size = BUCKETS.columns[name].hash
        assert codes.tolist() == [2 + hash_of(cell) % size if cell not in ("", None) else 1 for cell in HASHED[name]]
    assert encoding.levels("a") == []
    whole = learned(BUCKETS, HASHED | {"c": [1, 1, 2, 2]})  # numbers have the hash of their value, in any dtype
    assert encoded(whole, HASHED | {"c": [1, 2, 2, 1]}, "float64")[:2, 2].tolist() == [X[1, 2], X[3, 2]]


@pytest.mark.slow
def test_hashes_are_the_same_in_every_process():
    code = "from test_encoding import BUCKETS, HASHED, encoded, learned\n"
    code += "import sys; assert not {'narwhals', 'pandas', 'polars'} & sys.modules.keys()\n"
    code += "print(encoded(learned(BUCKETS, HASHED), HASHED).tolist())"
    assert python(code, PYTHONHASHSEED="7").strip() == str(encoded(learned(BUCKETS, HASHED), HASHED).tolist())


def test_hashes_spread():
    cells = [str(i) for i in range(20_000)]
    for values in (cells, list(range(20_000)), (np.arange(20_000) * 1024).tolist()):
        counts = np.bincount(one(Code(hash=100), values, values).astype(int), minlength=102)[2:]
        assert counts.sum() == 20_000 and counts.min() > 130 and counts.max() < 270  # 200 +- 5 deviations


def parts_of(when):
    days = (when - datetime.datetime(1970, 1, 1)) / datetime.timedelta(days=1)
    return [days, when.year, when.month, when.day, when.weekday(), when.hour]


def test_parts_of_dates(dtype):
    rng = np.random.default_rng(0)
    start = datetime.datetime(1969, 1, 1)
    times = [start + datetime.timedelta(minutes=int(m)) for m in rng.integers(0, 3_000_000, 500)]
    expected = np.array([parts_of(when) for when in times])
    names = ["elapsed", "year", "month", "day", "weekday", "hour"]
    for cells in (
        times,
        np.array(times, "M8[s]"),
        [str(when) for when in times],
        [when.isoformat() + "Z" for when in times],
    ):
        encoding = learned(Columns(a=Date(names)), {"a": cells}, dtype=dtype)
        assert encoding.feature_names == tuple(f"a.{name}" for name in names)
        X = encoded(encoding, {"a": cells}, dtype)
        days = expected[:, 0]
        np.testing.assert_allclose(
            X[:, 0], (days - days.mean()) / days.std(), atol=1e-5 if dtype == "float32" else 1e-9
        )
        for j, name in enumerate(names[1:], 1):
            levels = encoding.levels(f"a.{name}")
            assert levels == np.unique(expected[:, j]).tolist()
            assert [levels[code - 2] for code in X[:, j].astype(int)] == expected[:, j].tolist()
    kinds = [type(feature) for feature in encoding.features()]
    assert kinds == [Plain] + [OneHot] * 5
    X = encoded(encoding, {"a": [None, "2150-01-01"]}, dtype)
    assert np.isnan(X[0, 0]) and X[0, 1:].tolist() == [1] * 5 and X[1, 1] == 0


@pytest.mark.parametrize(
    "cells, parts",
    [
        (np.datetime64("2024-01-01") + np.arange(800), ["elapsed", "month", "day", "weekday"]),
        (np.datetime64("2024-01-01") + np.arange(60), ["elapsed", "day", "weekday"]),
        (np.datetime64("2024-01-01") + np.arange(7), ["elapsed"]),
        (np.datetime64("2024-01-01T00") + np.arange(60), ["elapsed", "hour"]),
        (np.datetime64("2024-01-01") + 7 * np.arange(9), ["elapsed", "day"]),  # all are Mondays
        (np.array(["2024-01", "2026-03", "NaT"], "M8[M]"), ["elapsed", "month", "weekday"]),
    ],
)
def test_dates_have_the_parts_that_rows_pass_through(cells, parts):
    columns = Columns(a=Date(), b=Number())
    encoding = learned(columns, {"a": cells, "b": np.arange(len(cells)) / 2})
    assert encoding.feature_names == (*(f"a.{part}" for part in parts), "b")


def test_a_row_counts_as_often_as_its_weight_says(dtype):
    columns = table(150)
    rng = np.random.default_rng(0)
    times = rng.integers(0, 4, 150)
    rows = rng.permutation(150)[:90]
    columns["price"] = [1e30 if t == 0 else cell for t, cell in zip(times, columns["price"], strict=True)]
    columns["city"] = ["nowhere" if t == 0 else cell for t, cell in zip(times, columns["city"], strict=True)]
    layer = Columns(price=Number(bins=5, scaling="robust"), city=Code(least=20), ad=Code(least=12), when=Date())
    for chosen in (None, rows):
        kept = np.arange(150) if chosen is None else chosen
        repeated = np.repeat(kept, times[kept])
        whole = learned(layer, frames.table("X", columns).taken(repeated), dtype=dtype)
        found = learned(layer, columns, chosen, times.astype(dtype), dtype)
        assert found.facts()["codings"][0] == whole.facts()["codings"][0]
        assert found.arrays().keys() == whole.arrays().keys()
        assert all(np.array_equal(found.arrays()[name], whole.arrays()[name]) for name in found.arrays())
        assert found.levels("city") == whole.levels("city") and "nowhere" not in found.levels("city")
    assert len(found.levels("ad")) < 9


def test_weights_that_are_shares_make_no_level_rare():
    cells = ["a", "a", "b", "b", "b", "c"]
    for scale in (1 / 6, 1e-6, 3.0):
        encoding = learned(Columns(a=Code(least=3)), {"a": cells}, weights=np.full(6, scale))
        assert encoding.levels("a") == (["a", "b", "c"] if scale == 3 else ["b"])


def test_rows_alone_are_learned_from():
    columns = table()
    rows = np.arange(50, 120)
    part = {name: [cells[row] for row in rows] for name, cells in columns.items()}
    assert learned(COLUMNS, columns, rows) == learned(COLUMNS, part)
    with pytest.raises(ValueError, match="column 'a' of X must be finite or missing; got inf at row 3"):
        learned(Columns(a=Number()), {"a": [1.0, 2.0, 3.0, inf]}, np.array([1, 3]))
    assert learned(Columns(a=Number()), {"a": [1.0, 2.0, 3.0, inf]}, np.array([1, 2]))


def test_infinity_is_refused_in_training_and_let_through_after():
    for column, cells in ((Number(), [1.0, 2.0, inf]), (Code(), [1.0, 1.0, inf])):
        with pytest.raises(ValueError, match="column 'a' of X must be finite or missing; got inf at row 2"):
            learned(Columns(a=column), {"a": cells})
        encoding = learned(Columns(a=column), {"a": [1.0, 1.0, 2.0]})
        with pytest.raises(ValueError, match="column 'a' of X must be finite or missing; got inf at row 2"):
            encoded(encoding, {"a": cells}, finite=True)
        assert encoded(encoding, {"a": cells})[2, 0] == (inf if isinstance(column, Number) else 0)
    encoding = learned(Columns(a=Number()), {"a": [1.0, 2.0]})
    assert encoded(encoding, {"a": [1e300, -1e300]})[:, 0].tolist() == [inf, -inf]  # beyond float32


DTYPES = [
    (Number(), [1, 2], ["x", "y"], r"column 'a' of X must be numbers \(fastnn.Code\(\) takes text\); got 'x' at row 0"),
    (Number(), [1, 2], np.array(["2024-01-01"] * 2, "M8[D]"), r"must be numbers \(fastnn.Date\(\) takes dates\); got"),
    (Code(), ["x", "y"], [1, 2], "column 'a' of X must be text, as in training; got 1 at row 0"),
    (Code(), [1, 2], [None, "x"], "column 'a' of X must be numbers, as in training; got 'x' at row 1"),
    (Code(hash=9), [1, 2], ["x", "y"], "column 'a' of X must be numbers, as in training; got 'x' at row 0"),
    (Code(), ["x", "y"], np.array(["2024-01-01"] * 2, "M8[D]"), "must be text, numbers or booleans .*Date"),
    (Date(), ["2024-01-01", "2024-02-01"], [3, 4], "column 'a' of X must be dates, or text that says dates; got 3 at"),
    (Date(), ["2024-01-01", "2024-02-01"], ["", "1.2.24"], "must be dates, or text such as .*; got '1.2.24' at row 1"),
]


@pytest.mark.parametrize("column, cells, other, message", DTYPES)
def test_another_kind_of_column_than_in_training_is_refused(column, cells, other, message):
    encoding = learned(Columns(a=column), {"a": cells})
    with pytest.raises((TypeError, ValueError), match=message):
        encoded(encoding, {"a": other})
    if "as in training" not in message:
        with pytest.raises((TypeError, ValueError), match=message):
            learned(Columns(a=column), {"a": other})


@pytest.mark.parametrize(
    "column, cells, message",
    [
        (
            Code(),
            [2.0**53, 1.0],
            r"must be whole numbers below 2\*\*53 where it is of float64, .*; got 9007199254740992.0",
        ),
        (Code(), np.array([1, 2**24], np.float32), r"must be whole numbers below 2\*\*24 where it is of float32"),
        (Number(), [-1e308, 1e308], "must be numbers whose differences float64 can hold; got numbers from -1e"),
        (Number(), [0.0, 1e-310], "must be numbers whose differences float64 can hold; got numbers from 0 to 1e-310"),
        (Code(hash=2**24), ["a", "b"], r"must be a column of at most 16,777,216 codes in float32 \(Code\(hash=...\)"),
    ],
)
def test_columns_that_nothing_can_be_learned_from_are_refused(column, cells, message):
    with pytest.raises(ValueError, match="^column 'a' of X " + message):
        learned(Columns(a=column), {"a": cells})


def test_float64_holds_more_codes():
    encoding = learned(Columns(a=Code(hash=2**24)), {"a": ["a", "b"]}, dtype="float64")
    assert encoding.features() == (OneHot(0, 2**24 + 2),)


def test_a_number_that_looks_like_ids_is_warned_of():
    rng = np.random.default_rng(0)
    data = {"ad_id": rng.integers(0, 10**6, 500), "price": rng.integers(0, 10**6, 500)}
    with pytest.warns(fastnn.IdColumnWarning, match="the column 'ad_id' holds whole numbers that look like ids, "):
        learned(Columns(ad_id=Number(), price=Number()), data)
    learned(Columns(ad_id=Code(), price=Number()), data)  # warnings are errors


EVERY = Columns(
    a=Number(bins=3), b=Number(scaling="robust"), c=Code(), d=Code(dim=2), e=Code(hash=9), f=Code(), g=Date(), h=Code()
)


def every():
    rng = np.random.default_rng(0)
    return {
        "a": np.where(rng.random(80) < 0.2, nan, rng.normal(size=80)),
        "b": rng.normal(size=80),
        "c": [f"ä{i}\ud800"[: 2 + i % 2] for i in range(80)],
        "d": rng.integers(-(2**63), 2**63 - 1, 5)[rng.integers(0, 5, 80)],
        "e": ["x"] * 80,
        "f": rng.integers(0, 4, 80) / 2,
        "g": np.datetime64("2020-01-01T03") + 31 * np.arange(80),
        "h": [None] * 80,
    }


def restored(facts, arrays):
    return Encoding.restored(EVERY, facts, arrays)


def test_facts_and_arrays_make_the_same_encoding_again():
    data = every()
    encoding = learned(EVERY, data)
    facts, arrays = json.loads(json.dumps(encoding.facts())), encoding.arrays()
    assert all(array.flags.c_contiguous and array.dtype.kind in "iuf" for array in arrays.values())
    same = restored(facts, arrays)
    assert same == encoding and not same != encoding  # noqa: SIM202
    assert same.features()[1:] == encoding.features()[1:] and same.feature_names == encoding.feature_names
    np.testing.assert_array_equal(encoded(same, data), encoded(encoding, data))
    assert pickle.loads(pickle.dumps(same)) == encoding
    assert len(pickle.dumps(learned(EVERY, data))) == len(pickle.dumps(encoding))  # which has encoded since
    other = learned(EVERY, data | {"a": data["b"]})
    assert other != encoding and encoding != "text"
    assert learned(Columns(a=Number()), data) != learned(Columns(a=Number(scaling="robust")), data)


def coding(j, **changes):
    def change(facts, arrays):
        facts["codings"][j].update(changes)

    return change


def without(j, key):
    return lambda facts, arrays: facts["codings"][j].pop(key)


def array(name, make):
    def change(facts, arrays):
        value = make(arrays.pop(name, None))
        if value is not None:
            arrays[name] = value

    return change


FORGED = [
    (lambda facts, arrays: facts.pop("codings"), "encoding must be a dict with codings alone"),
    (lambda facts, arrays: facts.update(more=1), "encoding must be a dict with codings alone"),
    (lambda facts, arrays: facts.update(codings={}), "codings must be list"),
    (lambda facts, arrays: facts["codings"].append(3), "coding must be a dict; got 3"),
    (lambda facts, arrays: facts["codings"].reverse(), "must be"),
    (lambda facts, arrays: facts["codings"].pop(), "codings must be those of Code() for the column 'h'; got parts []"),
    (lambda facts, arrays: facts["codings"].append(facts["codings"][1]), "codings must be those of each column once"),
    (lambda facts, arrays: facts["codings"].append(facts["codings"][-1]), "codings must be those of Code() for the"),
    (coding(0, column="q"), "column must be one of"),
    (coding(0, kind="codes"), "kind must be 'numbers'; got 'codes'"),
    (coding(0, part="year"), "part must be None for a Number and a Code; got 'year'"),
    (coding(0, more=1), "numbers must be a dict with shift, scale, gaps, varies alone"),
    (coding(0, shift=nan), "shift must be a finite float; got nan"),
    (coding(0, shift=3), "shift must be float; got 3"),
    (coding(0, scale=0.0), "scale must be a finite float > 0; got 0.0"),
    (coding(0, scale=inf), "scale must be a finite float > 0; got inf"),
    (coding(0, gaps=1), "gaps must be bool; got 1"),
    (without(0, "varies"), "numbers must be a dict with shift, scale, gaps, varies alone"),
    (coding(2, values="times"), "values must be one of 'text', 'numbers', 'nothing'; got 'times'"),
    (coding(2, values=[]), "values must be str; got []"),
    (coding(2, values="numbers"), "levels must be an array"),
    (coding(3, values="text"), "ends must be an array of int64"),
    (coding(6, part="second"), "part must be one of"),
    (coding(6, part=None), "part must be one of"),
    (coding(6, part="hour"), "must be"),
    (array("edges 0", lambda edges: edges[::-1].copy()), "edges must be increasing finite numbers"),
    (array("edges 0", lambda edges: edges[:1]), "edges must be increasing finite numbers"),
    (array("edges 0", lambda edges: edges[:, np.newaxis]), "edges must be an array of float64"),
    (array("edges 0", lambda edges: np.append(edges, inf)), "edges must be increasing finite numbers"),
    (array("edges 0", lambda edges: np.append(edges, edges[-1] + 1e-17)), "edges must be increasing finite numbers"),
    (array("edges 0", lambda edges: np.arange(9.0)), "edges must be increasing finite numbers"),
    (array("edges 0", lambda edges: edges.astype("float32")), "edges must be an array of float64"),
    (array("edges 1", lambda none: np.arange(3.0)), "edges must be increasing finite numbers, at least two, for the"),
    (array("levels 3", lambda levels: None), "levels must be an array of int64 (1,); got None"),
    (array("levels 3", lambda levels: levels[::-1].copy()), "levels must be increasing finite numbers"),
    (array("levels 3", lambda levels: levels.astype("int32")), "levels must be an array of int64"),
    (array("levels 5", lambda levels: np.append(levels, nan)), "levels must be increasing finite numbers"),
    (array("text 2", lambda text: text[:-1].copy()), "ends must be increasing, from above 0 to"),
    (array("text 2", lambda text: np.full_like(text, 255)), "codec can't decode"),
    (array("text 2", lambda text: None), "text must be an array of uint8"),
    (array("text 2", lambda text: np.full_like(text, 97)), "levels must be different text, sorted"),
    (array("ends 2", lambda ends: -ends), "ends must be increasing"),
    (array("ends 2", lambda ends: ends[::-1].copy()), "ends must be increasing"),
    (array("ends 2", lambda ends: None), "ends must be an array of int64"),
    (array("levels 4", lambda none: np.arange(3)), "arrays must be those of the encoding alone; got others, too"),
    (array("what", lambda none: np.arange(3)), "arrays must be those of the encoding alone; got others, too: ['what']"),
]


@pytest.mark.parametrize("change, message", FORGED, ids=[f"{i} {one[1][:30]}" for i, one in enumerate(FORGED)])
def test_forged_facts_and_arrays_are_refused_by_name(change, message):
    encoding = learned(EVERY, every())
    facts, arrays = json.loads(json.dumps(encoding.facts())), encoding.arrays()
    change(facts, arrays)
    with pytest.raises((TypeError, ValueError)) as caught:
        restored(facts, arrays)
    assert message in str(caught.value)


def test_features_are_those_of_an_embedding():
    encoding = learned(Columns(a=Number(bins=2), b=Number(), c=Code(), d=Code(dim=2), e=Code(hash=9)), every())
    embedding = Embedding(encoding.features(), units=5)
    bins = embedding.features[1].size
    assert embedding.outputs(encoding.n_features) == 1 + bins + 1 + 1 + 2  # a, whether it is missing, b, the vector
    tables = [(len(encoding.levels("d")) + 2, 2), (len(encoding.levels("c")) + 2, 5), (11, 5)]
    assert sorted(shape for shape, _ in embedding.parameters(encoding.n_features)) == sorted(tables)


def test_levels_are_asked_for_by_the_names_of_features():
    encoding = learned(COLUMNS, table())
    assert encoding.levels("city") == ["Bern", "Chur", "Genf", "Zug"]
    assert encoding.levels("when.weekday") == list(range(7))
    with pytest.raises(ValueError, match=r"name must be one of 'city', .*; got 'price'"):
        encoding.levels("price")


def test_numbers_of_few_values_are_codes_too():
    given = {"few": [1.0, 2.0, 2.0, None, 1.0, 3.0], "many": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}
    columns = Columns(few=Number(bins=4, levels=3), many=Number(levels=5))
    found = learned(columns, given)
    assert found.feature_names == ("few", "few.level", "many") and found.levels("few.level") == [1.0, 2.0]
    assert encoded(found, given)[:, 1].tolist() == [2, 3, 3, 1, 2, 0]  # 3.0 comes once
    assert [type(one).__name__ for one in found.features()] == ["Plain", "Bins", "Missing", "OneHot", "Plain"]
    assert Encoding.restored(columns, found.facts(), found.arrays()) == found
    facts, plain = found.facts(), Columns(few=Number(bins=4), many=Number(levels=5))
    with pytest.raises(ValueError, match="part must be None for a Number and a Code; got 'level'"):
        Encoding.restored(plain, facts, found.arrays())
    facts["codings"].insert(0, facts["codings"].pop(1))
    named = {"edges 1": found.arrays()["edges 0"], "levels 0": found.arrays()["levels 1"]}
    with pytest.raises(ValueError, match="codings must be those of Number"):
        Encoding.restored(columns, facts, named)
