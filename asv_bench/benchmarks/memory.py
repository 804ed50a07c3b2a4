"""The most memory that a process ever held: its data are tens of megabytes, so that the libraries matter less."""

import numpy as np

import fastnn


class Fit:
    version = "1"

    def peakmem_many_rows(self):
        """500,000 rows of 28 features: 56 MB."""
        X = np.random.default_rng(0).standard_normal((500_000, 28), np.float32)
        net = fastnn.logistic_net()
        net.fit(X, X[:, 0] > 0, optimizer=fastnn.SGD(0.1), epochs=2, batch_size=1000, threads=1)

    def peakmem_many_parameters(self):
        """16.8 million parameters: 67 MB, three times with Adam's state."""
        X = np.random.default_rng(0).standard_normal((32, 4096), np.float32)
        net = fastnn.Sequential([fastnn.Dense(4096, "relu"), fastnn.Dense(1)], seed=0)
        net.fit(X, X[:, 0], optimizer=fastnn.Adam(), epochs=2, batch_size=16, threads=1)


class Predict:
    version = "1"

    def peakmem_many_rows(self):
        """2 million rows of 8 features: 64 MB."""
        X = np.random.default_rng(0).standard_normal((2_000_000, 8), np.float32)
        net = fastnn.Sequential([fastnn.Dense(64, "relu"), fastnn.Dense(64, "relu"), fastnn.Dense(1)], seed=0)
        net.build(8).predict(X, threads=1)
