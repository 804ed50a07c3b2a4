"""How a net and its data become plans."""

import numpy as np

from . import arrays, backends, devices, standardization, validation
from .net import FUSED, Net


class Planner(Net):
    """The part of `Sequential` that checks data and makes plans of them."""

    def _data(self, X, y, sample_weight=None, class_weight=None, prefix="", features=None):
        """Checked (X, y, labels, weights) in the net's dtype, X where it was given, the others on the host."""
        X = arrays.matrix(f"{prefix}X", X, self.dtype, features or self.n_features, self.device)
        names, outputs = (f"{prefix}y", f"{prefix}sample_weight"), self.outputs
        y, weights = (arrays.host(*each, self.device) for each in zip(names, (y, sample_weight), strict=True))
        y, labels = validation.targets(names[0], y, self.dtype, len(X), self.loss, outputs)
        weights = validation.sample_weights(names[1], weights, self.dtype, len(X))
        by_class = validation.class_weights(class_weight, y, labels, outputs)
        if by_class is not None:
            weights = (by_class if weights is None else weights * by_class).astype(self.dtype)
        return X, y, labels, weights

    @property
    def _scales_targets(self):
        return self.loss not in FUSED and self.dense[-1].activation == "linear"

    def _plan(self, batch, threads, flags, on_gpu=False, training=False):
        """A plan of this net for `batch` rows at a time, which are on the GPU already or not."""
        work, kind = batch * self.layout.flops_per_sample(), "step" if training else "prediction"
        device = devices.chosen(self.device, work, kind, self.dtype, on_gpu)
        gradient = bool(flags & backends.WITH_GRADIENT)
        parameters = self._asked() if flags & backends.WRITE_OUTPUT else self.parameters
        sizes = self.layout, parameters, batch, threads, gradient, training
        plan = backends.make_plan(device, self.precision, *sizes)
        plan.set(COMMAND=backends.PASS, FLAGS=flags)
        backends.set_loss(plan, self.loss, self.huber_delta, self.loss in FUSED)
        return plan

    def _learn(self, X, y):
        """Build the net for these data, where that was not done, and learn their standardisation."""
        if self.layout is None:
            self.build(X.shape[1])
        if self.standardize and self.standardization is None:
            self.standardization = standardization.learn(
                np.asarray(X), y if self._scales_targets else None, self.outputs
            )

    def _give(self, plan, X, y, labels, weights, shuffle=False):
        """Name the rows that a plan with a loss visits, and how it visits them."""
        learned, shifts, scales = self.standardization, None, None
        if learned is not None:
            shifts, scales = learned.mean.astype(self.dtype), (1 / learned.std).astype(self.dtype)
            if self._scales_targets:
                y = standardization.scaled_targets(learned, y)
        if backends.device_of(plan) == "cpu":
            X = np.asarray(X)  # a batch of the GPU after others of the host, where the net may choose
        plan.data(X, y, weights, labels)
        plan.visit(shuffle, shifts, scales)

    def _prepare(self, plan, optimizer, l2):
        """Give a plan its optimizer, with the state that goes with it."""
        if optimizer.kernel != self._rule:
            self._forget_optimizer()
            self._state, self._rule = [plan.allocate(self.layout.size) for _ in range(2)], optimizer.kernel
        plan.set(
            OPTIMIZER=backends.optimizer_code(optimizer.kernel),
            STATE_1=self._state[0],
            STATE_2=self._state[1],
            SEED=self.seed,
            STEP=self._step,
            EPOCH=self._epoch,
        )
        for name, value in (optimizer.settings() | {"L2": l2}).items():
            plan.reals[backends.real(name)] = value
        plan.clip(optimizer.clip_value, optimizer.clip_norm)

    def _loss_plan(self, X, y, labels, weights, threads=None):
        """A plan for the loss of these rows, whatever the parameters are when it is carried out."""
        threads = backends.thread_count("threads", threads)
        plan = self._plan(len(X), threads, backends.WITH_LOSS, arrays.on_gpu(X))
        self._give(plan, X, y, labels, weights)
        return plan

    def _gradient_plan(self, X, y, sample_weight, threads, flags):
        self._must_be_built()
        X, y, labels, weights = self._data(X, y, sample_weight)
        flags |= backends.WITH_LOSS | backends.WITH_GRADIENT
        plan = self._plan(len(X), backends.thread_count("threads", threads), flags, arrays.on_gpu(X))
        self._give(plan, X, y, labels, weights)
        return plan
