"""A user's program, for type checkers: it is never run."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastnn
from fastnn.kernels import RELU, cuda
from fastnn.kernels.cpu import dense_forward, matmul
from fastnn.sklearn import LogisticRegression, MLPClassifier, MLPRegressor

Floats = NDArray[np.floating]

X = np.zeros((8, 3), np.float32)
y = [0, 1, 0, 1, 0, 1, 0, 1]

net = fastnn.Sequential(
    [fastnn.Dropout(0.1), fastnn.Dense(4, "relu"), fastnn.Dense(1, "sigmoid")], loss="binary_cross_entropy", seed=1
)
assert_type(net.build(3), fastnn.Sequential)
history = net.fit(X, y, optimizer=fastnn.Adam(fastnn.CosineDecay(0.1, epochs=3), clip_norm=1.0), epochs=3)
assert_type(history, fastnn.History)
assert_type(history.metrics, dict[str, NDArray[np.float64]])
history.plot(log=False).set_title("losses")
fastnn.plot.weights(net, (1, 3), units=[0, 1]).set_title("weights")


class Watch(fastnn.Callback):
    """A callback of the user's own."""

    def epoch(self, run: Any) -> None:
        """Look at the loss."""
        print(run.history.loss[-1])


def stop(net: fastnn.Sequential, history: fastnn.History) -> bool:
    """Whether it is good enough."""
    return bool(history.loss[-1] < 0.1)


def share(truth: Any, outputs: Any) -> float:
    """A metric of the user's own."""
    return float(np.mean(truth == outputs))


net.fit(
    X,
    y,
    metrics=("accuracy", "f1", share),
    callbacks=[fastnn.EarlyStopping(3), fastnn.ReduceLROnPlateau(), fastnn.Checkpoint("fit"), Watch(), stop],
    validation_split=0.25,
    class_weight="balanced",
    resume="fit",
)
net.fit([(X, y), (X, y)], epochs=2)
net.reset().fit(X, y, "adam", callbacks=[fastnn.Log(print, every=2)])
assert_type(history.latest(), dict[str, float])
assert_type(net.partial_fit(X, y), float)
assert_type(fastnn.load("net"), fastnn.Sequential | Any)
assert_type(fastnn.load("net").predict(X), Floats | Any)
ensemble = fastnn.Ensemble([net, net], weights=[1, 2])
assert_type(ensemble.predict(X), Floats)
assert_type(fastnn.apply(ensemble.freeze(), X), Floats)
study = fastnn.scale_study({"net": [fastnn.Dense(1, "sigmoid")]}, X, y, (X, y), epochs=3)
assert_type(study, fastnn.studies.ScaleStudy)
study.plot().set_title("scale")
assert_type(history.loss, NDArray[np.float64])
assert_type(net.predict(X), Floats)


class OnGpu:
    """An array of some library, in the memory of a GPU."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Where it stands."""
        return {}


net.fit(OnGpu(), OnGpu(), sample_weight=OnGpu(), validation_data=(OnGpu(), y))
net.fit([(OnGpu(), OnGpu())])
assert_type(net.predict(OnGpu()), Any)
assert_type(net.input_gradient(OnGpu(), y), Any)
assert_type(net.input_gradient(X, y), Floats)
assert_type(net.evaluate(OnGpu(), OnGpu()), dict[str, float])
assert_type(net.predict_labels(X), NDArray[Any])
assert_type(net.evaluate(X, y), dict[str, float])
assert_type(net.loss_and_gradient(X, y), tuple[float, Floats])
assert_type(net.get_weights(), list[Floats])
assert_type(net.summary(), str)
assert_type(fastnn.apply(net.freeze(), X), Floats)
assert_type(fastnn.logistic_net(3).build(2), fastnn.Sequential)
assert_type(MLPClassifier((8, 8), ["relu", "tanh"], class_weight={"no": 2.0}).fit(X, y), MLPClassifier)
assert_type(LogisticRegression(C=0.1).fit(X, y).predict_proba(X), Floats)
assert_type(MLPRegressor("huber", callbacks=[Watch(), stop]).fit(X, y, validation_data=(X, y)).coefs_, list[Floats])

W, b, Z = np.zeros((4, 3), np.float32), np.zeros(4, np.float32), np.zeros((8, 4), np.float32)
empty = np.zeros(0, np.float32)
dense_forward(X, W, b, RELU, 0.0, empty, Z, Z)
matmul(X, W.T, empty, Z)
cuda.dense_forward(OnGpu(), OnGpu(), OnGpu(), RELU, 0.0, None, OnGpu(), OnGpu(), stream=0)
cuda.loss_backward(RELU, 0.0, OnGpu(), OnGpu(), None, OnGpu(), OnGpu())
assert_type(cuda.work_size(8, 3, 4), int)
print(cuda.formulas_of("float32").activations[RELU], cuda.permuted(cuda.epoch_key(1, 2), 0, 8, *cuda.half_bits(8)))

net.fit(X, y, epochs="many")  # wrong
fastnn.Dense("four")  # wrong
MLPClassifier(alpha="small")  # wrong
matmul(X, W.T)  # wrong
cuda.matmul(X, OnGpu(), None, OnGpu())  # wrong
cuda.no_such_kernel(OnGpu())  # wrong
