"""Labels of any kind become class numbers, and unknown ones are refused by value and row."""

import numpy as np
import pytest

from fastnn import labels

LABELS = {
    "text": (["no", "yes", "maybe", "no"], ["maybe", "no", "yes"]),
    "ids": ([7, -3, 2**62, 7], [-3, 7, 2**62]),
    "booleans": ([True, False, True, False], [False, True]),
    "floats": (np.array([1.5, 2.0, 1.5, 0.0]), [0.0, 1.5, 2.0]),
    "array of text": (np.array(["b", "a", "b", "b"]), ["a", "b"]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_come_back(kind):
    y, expected = LABELS[kind]
    classes = labels.learn("y", y)
    assert classes.tolist() == expected and classes.dtype != object
    numbers = labels.encode(classes, "y", y)
    assert numbers.dtype == np.int64 and classes[numbers].tolist() == list(y)
    rows = np.array([3, 1])
    some = labels.learn("y", y, rows)
    assert some.tolist() == sorted({y[3], y[1]})
    assert some[labels.encode(some, "y", y, rows)[rows]].tolist() == [y[3], y[1]]


@pytest.mark.parametrize(
    "classes, y, rows, error, message",
    [
        (["a", "b"], ["b", "c"], None, ValueError, r"y must be of the classes \['a', 'b'\]; got 'c' at row 1"),
        (["a", "b"], ["c", "a", "d"], [1, 2], ValueError, r"y must be of the classes \['a', 'b'\]; got 'd' at row 2"),
        (["a", "b"], [0, 1], None, TypeError, r"y must be of the classes \['a', 'b'\]; got 0 at row 0"),
        ([1, 2], ["a"], None, TypeError, r"y must be of the classes \[1, 2\]; got 'a' at row 0"),
        ([1, 2], [1, 3], None, ValueError, r"y must be of the classes \[1, 2\]; got 3 at row 1"),
        ([1, 2], [1.5], None, ValueError, r"y must be of the classes \[1, 2\]; got 1.5 at row 0"),
    ],
)
def test_unknown_labels_are_refused(classes, y, rows, error, message):
    rows = None if rows is None else np.array(rows)
    with pytest.raises(error, match=message):
        labels.encode(np.array(classes), "y", y, rows)


@pytest.mark.parametrize(
    "y, message",
    [
        (["a", None], "y must be labels .*; got one that is missing at row 1"),
        ([1.0, float("nan")], "got one that is missing at row 1"),
        (["a", ""], "got one that is missing at row 1"),
        ([], "y must be labels .*; got none"),
        (["a", 1], "y must be values of one kind .*; got 'a' at row 0 and 1 at row 1"),
        (np.array(["2024-01-01"], "M8[D]"), "y must be labels .*; got datetime"),
        (np.ones((2, 2)), r"y must be a 1-D array or a list; got an array of shape \(2, 2\)"),
    ],
)
def test_what_is_no_label_is_refused(y, message):
    with pytest.raises((TypeError, ValueError), match=message):
        labels.learn("y", y)
