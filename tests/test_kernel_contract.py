"""What public kernels and `apply` refuse: called from Python all that would read or write elsewhere, by its name."""

import inspect

import nets
import numpy as np
import pytest
from arrays import normal
from numba import config, njit
from numba.core.errors import TypingError
from numpy.lib.stride_tricks import as_strided
from tolerance import assert_close

import fastnn
from fastnn import kernels
from fastnn.kernels import calls, contract, cpu
from fastnn.kernels.cpu import own, rng, vmath

KERNELS = {name: getattr(cpu, name) for name in cpu.__all__ if hasattr(getattr(cpu, name), "kernel")}
KERNELS |= {"permutation": rng.permutation, "evaluate": vmath.evaluate}
LENGTHS = {"m": 3, "n": 4, "k": 5, "n_in": 6, "n_out": 7, "work": 0, "t": 9, "p": 16, "operations": 2}
LENGTHS |= {"levels": 8, "size": 10}
compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="compiled code alone does it")


def operands_of(kernel):
    return contract.CONTRACTS[kernel.__name__]


def example(kernel):
    """Arguments that the contract of a kernel accepts, by name."""
    made = {}
    for name, parameter in inspect.signature(kernel).parameters.items():
        if name in operands_of(kernel):
            rule = operands_of(kernel)[name]
            made[name] = np.ones([LENGTHS[dim] for dim in rule.dims], rule.dtype or "f8")
        elif parameter.annotation in (int, float, bool):
            made[name] = parameter.annotation(1)
    return made


def packed(array):
    """The same numbers as a field of records, whose elements stand at no multiples of their size."""
    records = np.zeros(len(array), [("x", array.dtype, array.shape[1:]), ("id", "i1")])
    records["x"] = array
    return records["x"]


def read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view


def wrong_calls(kernel):
    """(what is wrong, arguments, error, words) of calls that a kernel must refuse."""
    right, rules = example(kernel), operands_of(kernel)
    first = next(name for name in rules if not rules[name].dtype or len(rules) == 1)
    for name, rule in rules.items():
        array = right[name]

        def call(value, name=name):
            return right | {name: value}

        yield f"{name} as a list", call(array.tolist()), TypeError, f"{name} must be a .* array.*; got list"
        yield f"{name} of bytes", call(array.astype("i1")), TypeError, f"{name} must be an array of .*; got one of int8"
        yield (
            f"{name} swapped",
            call(array.astype(array.dtype.newbyteorder())),
            TypeError,
            f"{name} must be an array of ",
        )
        yield f"{name} with an axis more", call(array[None]), ValueError, f"{name} must be an array of shape .*; got "
        other = np.float32 if name != first else None
        if other and not rule.dtype:
            yield f"{name} in float32", call(array.astype(other)), TypeError, f"{name} must be an array of float64"
        for axis, dim in enumerate(rule.dims):
            if sum(each.dims.count(dim) for each in rules.values()) > 1:
                longer = call(np.concatenate([array, array], axis))
                yield f"{name} with too many of {dim}", longer, ValueError, "must be an array of shape .*; got shape"
        if array.size > 1:
            yield f"{name} packed", call(packed(array)), ValueError, f"{name} must be .* at multiples of their size"
        if rule.consecutive:
            yield (
                f"{name} apart",
                call(np.ones(2 * max(array.size, 9), array.dtype)[::2][: array.size or 9]),
                ValueError,
                (f"{name} must be an array of consecutive elements"),
            )
        if rule.written:
            yield f"{name} read-only", call(read_only(array)), ValueError, f"{name} must be .* can be written to"
        if rule.written and array.size > 1 and not rule.consecutive:
            repeated = as_strided(array, array.shape, (0,) * array.ndim)
            yield f"{name} repeated", call(repeated), ValueError, f"{name} must be an array without repeated elements"
    yield from overlapping_calls(right, rules)
    for name, parameter in inspect.signature(kernel).parameters.items():
        if parameter.annotation in (int, float, bool):
            yield f"{name} as text", right | {name: "1"}, TypeError, f"{name} must be an? .*; got '1'"
        if parameter.annotation is int:
            yield f"{name} too large", right | {name: 2**64}, ValueError, f"{name} must be an int of 64 bits"


def overlapping_calls(right, rules):
    """An output that begins at the second element of another operand of its dtype, and each that is all of another."""
    for name, rule in rules.items():
        for other in rules if rule.written and right[name].size > 1 else ():
            a, b = right[name], right[other]
            if other == name or a.dtype != b.dtype or b.size < 2:
                continue
            memory = np.ones(a.size + b.size + 1, a.dtype)
            shifted = {name: memory[1 : 1 + a.size].reshape(a.shape), other: memory[: b.size].reshape(b.shape)}
            words = f"must be an array that shares no memory with ({name}|{other})"
            yield f"{name} within {other}", right | shifted, ValueError, words
            if other not in rule.may_be and a.shape == b.shape:
                yield f"{name} for {other}", right | {other: a}, ValueError, words


def refuse_all(kernel, **more):
    for what, arguments, error, words in wrong_calls(kernel):
        with pytest.raises(error, match=words) as raised:
            kernel(**arguments, **more)
        assert not isinstance(raised.value, TypingError), what


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_refuse_by_name_what_is_not_theirs(name):
    refuse_all(KERNELS[name])


class Echo:
    """A kernel that gives its arguments."""

    def compile(self, kinds):
        return self

    def __call__(self, *given):
        return given


@pytest.mark.parametrize("name", KERNELS)
def test_calls_like_an_accepted_one_are_known_and_others_refused(name, monkeypatch):
    """What is known of a call is all but where its arrays stand: that alone makes some of the wrong ones wrong."""
    kernel, right = KERNELS[name], tuple(example(KERNELS[name]).values())
    known = calls.Calls(contract.Contract(kernel.py_func), Echo())

    def accepted(*given):
        return known.call(given, {})

    accepted(*right)
    with monkeypatch.context() as patch:
        patch.delattr(contract.Contract, "check")  # not needed again, for other arrays of the same form either
        assert accepted(*right) == right
        accepted(*[value.copy() if isinstance(value, np.ndarray) else value for value in right])
    for what, wrong, error, words in wrong_calls(kernel):
        apart = [np.array(v)[...] if isinstance(v, np.ndarray) and v.base is not None else v for v in wrong.values()]
        if "within" in what:
            accepted(*apart)
        with pytest.raises(error, match=words):
            accepted(*wrong.values())


@pytest.mark.parametrize("array", [np.ones(3), np.ones((2, 3), "f4").T, np.ones((4, 3))[::-1, 1], np.empty((0, 2))])
def test_where_an_array_stands(array):
    assert calls.address_of_first(array) == array.ctypes.data


def test_an_array_may_stand_for_two_operands_and_then_for_one():
    known = calls.Calls(contract.Contract(cpu.dense_forward.py_func), Echo())
    X, W, b, work, Z = np.ones((5, 3)), np.ones((4, 3)), np.ones(4), np.empty(0), np.ones((5, 4))

    def accepted(*more):
        return known.call((X, W, b, kernels.RELU, 0.0, work, *more), {})

    for _ in range(2):
        accepted(Z, Z)
        accepted(Z, Z[...])
        accepted(Z, Z.copy())
        with pytest.raises(ValueError, match="A must be an array that shares no memory with Z|Z must be an array"):
            both = np.ones((6, 4))
            accepted(both[1:], both[:-1])


def test_every_kernel_that_takes_arrays_has_a_contract():
    for name in cpu.__all__:
        thing = getattr(cpu, name)
        annotations = getattr(getattr(thing, "py_func", None), "__annotations__", {})
        arrays = [each for each, kind in annotations.items() if kind not in (int, float, bool, None)]
        assert (name in KERNELS) == bool(arrays), name
        assert list(contract.CONTRACTS.get(name, ())) == arrays, name


def test_operands_that_may_be_the_same_or_left_out():
    Z, y, w = normal(1, 5, 3), np.arange(5.0)[:, None] % 3, np.empty(0)
    labels, hot = (cpu.loss_forward(kernels.CROSS_ENTROPY, 0.0, Z, t, w) for t in (y, np.eye(3)[y[:, 0].astype(int)]))
    assert labels == pytest.approx(hot)
    with pytest.raises(ValueError, match=r"y must be an array of shape \(5, 3\); got shape \(5, 1\)"):
        cpu.loss_forward(kernels.MSE, 0.0, Z, y, w)
    cpu.activation_forward(kernels.TANH, 0.0, Z, Z)
    columns = normal(2, 5, 8)
    cpu.activation_forward(kernels.RELU, 0.0, columns[:, :4], columns[:, 4:])  # interleaved, but apart
    assert np.array_equal(columns[:, 4:], np.maximum(columns[:, :4], 0.0))


@compiled_only  # plain Python divides by no zero
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_of_empty_arrays_is_read(shape):
    Z, w = np.empty(shape), np.empty(0)
    for code in (kernels.SOFTMAX, kernels.TANH):
        cpu.activation_forward(code, 0.0, Z, np.empty(shape))
        cpu.activation_backward(code, 0.0, Z, Z, Z, np.empty(shape))
    for code in (kernels.CROSS_ENTROPY, kernels.MSE):
        cpu.loss_backward(code, 0.0, Z, Z, w, np.empty(shape))
    cpu.matmul(Z, np.ones((shape[1], 2)), w, out := np.full((shape[0], 2), np.nan))
    assert not out.any()


@njit
def product(A, B, out):
    cpu.matmul(A, B, np.empty(0), out)


@njit
def product_of_records(records, B, out):
    cpu.matmul(records["rows"], B, np.empty(0), out)


# where code is made, by the kernel that compiles fastest
@njit
def update(theta, grad):
    cpu.sgd_update(theta, grad, 0.5, 0.25)


@njit(boundscheck=True)
def checked_update(theta, grad):
    cpu.sgd_update(theta, grad, 0.5, 0.25)


@njit
def loss(Z, y, w):
    return cpu.loss_forward(2, 0.0, Z, y, w)


A, B, OUT = normal(1, 3, 4), normal(2, 4, 5), np.empty((3, 5))
PACKED = np.zeros(3, [("x", "f8"), ("rows", "f8", 4), ("id", "i4")])
THETA, GRAD = normal(3, 3), normal(4, 3)


@compiled_only
@pytest.mark.parametrize(
    "call,error,words",
    [
        (lambda: product(A, B, read_only(OUT)), TypingError, "out must be an array that can be written to"),
        (lambda: product(A, B[0], OUT), TypingError, r"B must be an array of float64 of shape \(k, n\); got array"),
        (lambda: product(A, B.astype("f4"), OUT), TypingError, r"B must be an array of float64 .*; got array\(float32"),
        (lambda: product(A.astype(int), B, OUT), TypingError, "A must be an array of float32 or float64 .*; got array"),
        (lambda: loss(A, A, 1.0), TypingError, r"w must be an array of float64 of shape \(m,\) or \(0,\); got float64"),
        (lambda: update(THETA, PACKED["x"]), ValueError, "grad must be an array whose elements stand at multiples"),
        (lambda: product_of_records(PACKED, B, OUT), TypingError, "A must be an array whose elements stand at"),
        (lambda: checked_update(THETA, GRAD[:2]), ValueError, r"grad must be an array of shape \(n,\)"),
    ],
)  # fmt: skip
def test_compiled_code_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


@compiled_only
def test_compiled_code_names_arguments():
    @njit
    def by_name(theta, grad):
        cpu.sgd_update(decay=0.25, grad=grad, rate=0.5, theta=theta)

    by_name(named := THETA.copy(), GRAD)
    checked_update(checked := THETA.copy(), GRAD)
    assert_close(named, THETA - 0.5 * (GRAD + 0.25 * THETA), "sum")
    assert np.array_equal(named, checked)


@njit
def apply_to(net, x, out):
    return fastnn.apply(net, x, out)


@njit
def apply_to_records(net, records, out):
    return fastnn.apply(net, records["x"], out["x"])


def test_apply_takes_fields_of_packed_records():
    net, _, _ = nets.pair()
    X, frozen = normal(1, 3, nets.WIDTHS[0]), net.freeze()
    right = net.predict(X)
    field, results = packed(X), packed(np.zeros((3, nets.WIDTHS[-1])))
    for use in (fastnn.apply, apply_to):
        results[...] = 0.0
        assert np.array_equal(use(frozen, field, results), right)
        assert np.array_equal(use(frozen, field[:1], results[:1]), right[:1])
    single = packed(X.T.copy())[:, 0]  # a column, one row of features
    out = packed(np.zeros((nets.WIDTHS[-1], 1)))[:, 0]
    assert_close(apply_to(frozen, single, out), right[0], "sum")


@compiled_only
def test_apply_takes_fields_of_records_in_compiled_code():
    net, _, _ = nets.pair()
    X = normal(1, 3, nets.WIDTHS[0])
    records = np.zeros(3, [("x", "f8", nets.WIDTHS[0]), ("id", "i4")])
    out = np.zeros(3, [("x", "f8", nets.WIDTHS[-1]), ("id", "i4")])
    records["x"] = X
    assert np.array_equal(apply_to_records(net.freeze(), records, out), net.predict(X))
    assert np.array_equal(out["x"], net.predict(X))


@pytest.mark.parametrize("use", [fastnn.apply, apply_to], ids=["Python", "compiled"])
def test_apply_may_write_over_what_it_reads(use):
    net = fastnn.Sequential([fastnn.Dense(3, "tanh"), fastnn.Dense(3)], dtype="float64").build(3)
    memory, frozen = normal(1, 60, 3), net.freeze()
    right = fastnn.apply(frozen, memory[:50])
    use(frozen, memory[:50], memory[3:53])
    assert np.array_equal(memory[3:53], right)


@compiled_only
def test_apply_writes_no_read_only_output():
    net, _, _ = nets.pair()
    with pytest.raises(TypingError, match="out must be an array that can be written to"):
        apply_to(net.freeze(), normal(1, 3, nets.WIDTHS[0]), read_only(np.zeros((3, nets.WIDTHS[-1]))))


FORGED = {
    "table of zeros": lambda net: net._replace(table=net.table * 0),
    "table cut short": lambda net: net._replace(table=net.table[:20]),
    "no table": lambda net: net._replace(table=net.table[:0]),
    "table of another net": lambda net: net._replace(table=nets.pair((4, 40, 9, 2))[0].freeze().table),
    "table of float32": lambda net: net._replace(table=nets.pair(dtype="float32")[0].freeze().table),
    "parameters cut short": lambda net: net._replace(parameters=net.parameters[:-1].copy()),
    "alphas cut short": lambda net: net._replace(alphas=net.alphas[:-1].copy()),
    "parameters in float32": lambda net: net._replace(parameters=net.parameters.astype("f4")),
    "parameters apart": lambda net: net._replace(parameters=np.repeat(net.parameters, 2)[::2]),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_frozen_net_that_freeze_did_not_make_is_refused(name):
    net, _, _ = nets.pair()
    X, forged = normal(1, 3, nets.WIDTHS[0]), FORGED[name](net.freeze())
    # as freeze makes them: other types would be compiled for
    forged = forged._replace(
        **{field: read_only(getattr(forged, field)) for field in ("table", "alphas", "parameters")}
    )
    with pytest.raises((TypeError, ValueError), match="net(.alphas|.parameters)? must be|x must be"):
        fastnn.apply(forged, X)
    if hasattr(apply_to, "signatures"):
        with pytest.raises((TypingError, ValueError), match=r"net(\.\w+)? must be|x must be"):
            apply_to(forged, X, np.zeros((3, nets.WIDTHS[-1])))
    with pytest.raises((TypeError, ValueError), match="must be"):
        raise own.failure_at(cpu.apply_rows(*forged, X, np.zeros((3, nets.WIDTHS[-1]))))


def test_other_parameters_of_the_same_shape_are_taken():
    net, _, _ = nets.pair()
    X, other = normal(1, 3, nets.WIDTHS[0]), net.freeze()._replace(parameters=net.parameters * 0.5)
    net.parameters *= 0.5
    assert np.array_equal(fastnn.apply(other, X), net.predict(X))
