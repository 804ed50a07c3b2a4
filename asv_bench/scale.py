"""The scale study of a first course on real pictures: seconds for four nets, four sizes and five seeds.

    python asv_bench/scale.py [--picture scale.png]

Fashion-MNIST (Xiao, Rasul and Vollgraf 2017) is read from fashion_mnist.npz in the folder FASTNN_DATA. All nets make 10
epochs by batches of 128, whatever the number of pictures is, and are judged on the 10,000 pictures of the test set.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np

import fastnn

HIDDEN = {"no hidden layer": (), "16": (16,), "128": (128,), "512, 256": (512, 256)}
SIZES, SEEDS = (500, 2_000, 10_000, 60_000), range(5)


def layers(hidden):
    start = "he_normal"
    return [*(fastnn.Dense(n, "relu", kernel_initializer=start) for n in hidden), fastnn.Dense(10, "softmax")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, metavar="FILE.png")
    options = parser.parse_args()
    with np.load(Path(os.environ.get("FASTNN_DATA", ".")) / "fashion_mnist.npz") as file:
        X, y, test_X, test_y = (file[name] for name in ("X_train", "y_train", "X_test", "y_test"))
    X, test_X = (images.reshape(len(images), -1) / np.float32(255) for images in (X, test_X))
    nets = {name: layers(hidden) for name, hidden in HIDDEN.items()}
    settings = dict(epochs=10, batch_size=128, optimizer=fastnn.Adam(1e-3))
    fastnn.warmup("float32")
    begin, processor = time.perf_counter(), time.process_time()
    study = fastnn.scale_study(nets, X, y, test=(test_X, test_y), sizes=SIZES, seeds=SEEDS, **settings)
    seconds, busy = time.perf_counter() - begin, time.process_time() - processor
    for name, scores in study.scores.items():
        print(f"{name:>16}: {', '.join(f'{median:.3f}' for median in np.median(scores, axis=1))}")
    print(f"{len(HIDDEN) * len(SIZES) * len(SEEDS)} fits in {seconds:.1f} s, {busy:.1f} s of processor time")
    if options.picture:
        study.plot().figure.savefig(options.picture)


if __name__ == "__main__":
    main()
