"""What an activation, a loss, an optimizer, a kind of layer cost in source files; and that they train on the CPU."""

import json

import pytest
from extensions import EXTENSIONS, extend, training
from subprocesses import python

from fastnn.kernels import formulas

# the gradient by central differences, and predictions one by one, through a copy and through a file
CHECKS = """
loss, gradient = net.loss_and_gradient(X, y)
theta, differences = net.parameters.copy(), []
places = [i for pair in net.parameter_slices for part in pair for i in range(part.start, part.stop)]
for i in places:
    losses = []
    for step in (1e-5, -1e-5):
        net.parameters = theta + step * (np.arange(theta.size) == i)
        losses.append(net.evaluate(X, y)["loss"])
    differences.append((losses[0] - losses[1]) / 2e-5)
net.parameters = theta
np.testing.assert_allclose(gradient[places], differences, rtol=1e-6, atol=1e-8)
frozen = net.freeze()
np.testing.assert_allclose([apply(frozen, row)[0] for row in X], net.predict(X).ravel(), rtol=1e-12)
import pickle, copy
assert np.array_equal(pickle.loads(pickle.dumps(net)).predict(X), net.predict(X))
assert np.array_equal(pickle.loads(pickle.dumps(frozen)).parameters, frozen.parameters)
"""


@pytest.mark.parametrize(
    "kind", [kind if kind == "activation" else pytest.param(kind, marks=pytest.mark.slow) for kind in EXTENSIONS]
)
def test_an_extension_costs_few_files_and_trains(kind, tmp_path):
    files, most = extend(kind, tmp_path / "site")
    assert files <= most
    own = dict(PYTHONPATH=tmp_path / "site", FASTNN_CACHE_DIR=tmp_path / "cache")
    losses, outputs = json.loads(python(training(kind, "cpu", "float64", CHECKS), **own))
    assert losses[-1] < 0.9 * losses[0]
    assert len(outputs) == 22


@pytest.mark.parametrize("records", ["ACTIVATIONS", "LOSSES", "RULES"])
def test_a_code_is_the_place_of_its_record(records):
    for place, record in enumerate(getattr(formulas, records)):
        assert record.code == place == getattr(formulas, record.name.upper())
