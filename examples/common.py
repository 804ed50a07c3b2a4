"""What the examples share: their options, and where their pictures go."""

import argparse
import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image  # comes with matplotlib


def options(documentation, arguments=None, **flags):
    """Parsed command line: `quick`, `output`, a folder that exists, and further flags, given with what they do."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few epochs, to see that it runs")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder for the picture (default: this one)")
    for name, purpose in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=purpose)
    parsed = parser.parse_args(arguments)
    parsed.output.mkdir(parents=True, exist_ok=True)
    return parsed


def panels(columns=1, width=6.4, height=4.4, **more):
    """A figure and its Axes, side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, **more)


def save(figure, path):
    """Write a picture of 128 colours, which keeps it small, and say so."""
    whole = io.BytesIO()
    figure.savefig(whole, dpi=100)
    Image.open(whole).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"wrote {path}")
