"""The workloads of this working tree, whichever commit of fastnn is installed and timed."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_spec = spec_from_file_location(__name__, Path(__file__).parents[1] / "fastnn" / "workloads.py")
_module = module_from_spec(_spec)
_spec.loader.exec_module(_module)
WORKLOADS = _module.WORKLOADS
