"""fastnn: small and medium neural networks, trained and served at the speed of the hardware."""

import sys
from typing import TYPE_CHECKING

from . import errors, layers, optimizers, plot, studies, surface
from ._version import __version__
from .backends import get_num_threads, set_num_threads
from .callbacks import Callback, EarlyStopping, ReduceLROnPlateau
from .candidates import Range
from .checkpoint import Checkpoint
from .column_kinds import Code, Date, Number
from .columns import Columns
from .devices import measure_devices
from .ensembles import Ensemble
from .environment import show_versions, warmup
from .errors import BusyError, DeadUnitsWarning, DivergedError, IdColumnWarning, NotBuiltError, UnscaledWarning
from .history import History
from .inference import Frozen, apply
from .layers import *  # noqa: F403  (so that a new kind of layer costs no edit here; the same for optimizers)
from .log import Log
from .logistic import logistic_net
from .models import Sequential
from .optimizers import *  # noqa: F403
from .presets import Preset, preset
from .schedules import Constant, CosineDecay, InverseTimeDecay, Schedule, StepDecay, WarmUp
from .standardization import Standardization
from .storage import load
from .studies import cost_surface, depth_study, rate_study, scale_study, units_study
from .sweep import Sweep
from .sweep_result import SweepResult, Trial

__all__ = [
    "BusyError",
    "Callback",
    "Checkpoint",
    "Code",
    "Columns",
    "Constant",
    "CosineDecay",
    "Date",
    "DeadUnitsWarning",
    "DivergedError",
    "Ensemble",
    "EarlyStopping",
    "Frozen",
    "History",
    "IdColumnWarning",
    "InverseTimeDecay",
    "Log",
    "NotBuiltError",
    "Preset",
    "Number",
    "Range",
    "ReduceLROnPlateau",
    "Schedule",
    "Sequential",
    "Standardization",
    "StepDecay",
    "Sweep",
    "SweepResult",
    "Trial",
    "UnscaledWarning",
    "WarmUp",
    "__version__",
    "apply",
    "cost_surface",
    "depth_study",
    "get_num_threads",
    "load",
    "logistic_net",
    "measure_devices",
    "plot",
    "preset",
    "rate_study",
    "scale_study",
    "set_num_threads",
    "show_versions",
    "studies",
    "units_study",
    "warmup",
]
__all__ += layers.__all__
__all__ += optimizers.__all__
surface.finish(sys.modules[__name__], __all__)


def __dir__() -> list[str]:
    return [*__all__, "kernels"]


if not TYPE_CHECKING:  # to a type checker it would say that there is every name

    def __getattr__(name: str):
        if name != "LogisticRegression":
            raise errors.unknown_attribute("fastnn", name, () if name.startswith("_") else __all__)
        import warnings

        new = "fastnn.logistic_net; the estimator is fastnn.sklearn.LogisticRegression"
        warnings.warn(f"fastnn.LogisticRegression is now called {new}", FutureWarning, stacklevel=2)
        return logistic_net
