"""Sweeps: many nets that differ in layers, optimizers, seeds, trained and judged in one call, the best ones kept."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from numpy.typing import DTypeLike

from . import fit, validation
from . import progress as bars
from .arrays import AnyArray
from .callbacks import EarlyStopping
from .candidates import Space
from .custom import Pair
from .errors import must_be
from .layers import Layer
from .models import Sequential
from .search import Asking, Judging, Search
from .sweep_result import SweepResult, headline


class Sweep:
    """Many nets, trained side by side and judged on rows that they have not seen.

    Each net has the bits of `Sequential.fit` with the same settings, whatever else is in the sweep, on any number of
    threads: a thread trains a whole net, then takes the next one.

    Parameters
    ----------
    layers : callable or sequence of layer
        A function that gives the list of layers of a net, of values that it takes by name; or one list for all.
    loss, dtype, huber_delta, quantile, standardize
        As for `Sequential`; the same for all nets. The last layers must all lead to the same loss and number of
        outputs.
    device : str
        "cpu", or "cuda": nets of the same layers that are small enough are then trained side by side, each by a block
        of the GPU, the others one after another.
    precision : str
        As for `Sequential`; on a GPU for those that are trained one after another.
    **values
        What is tried. From each name that `layers` takes, and from optimizer, batch_size, l2 and seed, which mean what
        they mean to `Sequential` and its `fit`, to a sequence of values, or to one value. Without a sample all
        combinations are tried. For a sample a name may also have a distribution: `fastnn.Range`, or a frozen one of
        scipy.stats. optimizer, batch_size and l2 may be functions of values by name, too: `optimizer=fastnn.Adam,
        learning_rate=fastnn.Range(1e-4, 1e-1, log=True)`.

    Attributes
    ----------
    result : SweepResult or None
        Of the last `fit`, also of one that Ctrl-C or an error ended: then with the candidates that were judged by then.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted, such as a value with a name that nothing takes.
    """

    def __init__(
        self,
        layers: Callable[..., Sequence[Layer]] | Sequence[Layer],
        *,
        loss: str | Pair | None = None,
        dtype: DTypeLike = "float32",
        huber_delta: float = 1.0,
        quantile: float = 0.5,
        standardize: bool = False,
        device: str = "cpu",
        precision: str = "float32",
        **values: Any,
    ) -> None:
        if device == "auto":
            raise must_be("device", "'cpu' or 'cuda' for a sweep", device)
        of_loss: dict[str, Any] = {"loss": loss, "huber_delta": huber_delta, "quantile": quantile}
        settings = of_loss | {"dtype": dtype, "standardize": standardize, "device": device, "precision": precision}
        self._make = lambda layers, seed=0: Sequential(layers, seed=seed, **settings)
        self._space = Space(layers, values, self._make)
        self.result: SweepResult | None = None

    def fit(
        self,
        X: AnyArray,
        y: AnyArray,
        epochs: int = fit.EPOCHS,
        shuffle: bool = True,
        sample_weight: AnyArray | None = None,
        class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
        cv: Any = None,
        validation_data: Sequence[AnyArray] | None = None,
        validation_split: float | None = None,
        halving: int | None = None,
        sample: int | None = None,
        sampler: Any = None,
        score: str | Callable[[Any, Any], float] | None = None,
        metrics: Sequence[str | Callable[[Any, Any], float]] = (),
        early_stopping: EarlyStopping | None = None,
        callbacks: Sequence[Callable[[SweepResult], Any]] = (),
        progress: bool = False,
        threads: int | None = None,
        keep: int = 32,
        refit: bool | None = None,
        seed: int = 0,
    ) -> SweepResult:
        """Train the candidates and judge them.

        Memory is taken by the data and their conversions, as in `Sequential.fit`, and for nets of full batches by a
        copy of the rows of each fold. Then by the nets at work with their outputs for the held-out rows, two waves of
        at most 256 nets (4,096 on a GPU) or about 256 MB each; by those that are kept: `keep`, or, between the rounds
        of a halving, those that go on; and by 8 bytes an epoch of each net for its losses.

        Parameters
        ----------
        X, y : array-like
            As for `Sequential.fit`; on the host.
        epochs : int
            Passes over the rows that each net is trained for.
        shuffle, sample_weight, class_weight
            As for `Sequential.fit`; sample weights count in scores, too.
        cv : int, splitter or iterable, optional
            Number of folds: each class is spread over all of them, in random order with shuffle=True. Or a splitter of
            scikit-learn, or pairs of row numbers (to train on, held out). A candidate is trained once for each fold,
            and its score is the mean.
        validation_data : tuple, optional
            (X, y) or (X, y, sample_weight) to judge by, instead of folds.
        validation_split : float, optional
            Share of the rows, the same for all candidates, to judge by; 0.2 where nothing else says how.
        halving : int, optional
            Successive halving (Jamieson and Talwalkar 2016) by this factor: all candidates are trained for a share of
            the epochs, the best 1/halving of them go on, from where they stopped, for halving times as many, and so on:
            three rounds at most, and the last has `epochs`.
        sample : int, optional
            Candidates to try, at random, instead of all.
        sampler : optuna sampler or study, optional
            Proposes the `sample` candidates, in batches, by what came of the earlier ones (extra `optuna`). Not with
            halving.
        score : str or callable, optional
            What candidates are judged by: "loss", or as one of `metrics`; a function of your own must have an attribute
            greater_is_better. Default "accuracy" for cross-entropies, else "r2".
        metrics : sequence of str or callable
            More scores to be recorded, as for `Sequential.fit`.
        early_stopping : EarlyStopping, optional
            Ends single nets, by the validation loss after each epoch, or by the training loss (`monitor="loss"`).
        callbacks : sequence of callable
            Called with the result so far after each wave of nets; one that returns True ends the sweep.
        progress : bool
            Show a bar (extra `progress`).
        threads : int, optional
            Threads that train nets.
        keep : int
            Candidates, the best ones, whose nets are kept, for `SweepResult.nets` and `ensemble`.
        refit : bool, optional
            Whether the best candidate is trained once more, on all rows, for `SweepResult.net`; for as many epochs as
            were best on average where it was stopped early. Default: with cv only; without it `net` is the best net
            itself.
        seed : int
            Chooses folds, a validation_split and the sample.

        Returns
        -------
        SweepResult
            Scores of all candidates, and the best nets.

        Raises
        ------
        TypeError, ValueError
            For an argument that is not accepted, or a candidate that is no net, before anything is trained.
        DivergedError
            If the refit diverged. A candidate that diverges is marked in the result, and the others go on.
        KeyboardInterrupt
            On Ctrl-C; `result` then has what was judged by then.
        """
        given = fit.Rows(X, y, None, sample_weight, class_weight, validation_data, validation_split)
        steps = fit.Steps(epochs=epochs, shuffle=shuffle, threads=threads)
        judging = Judging(cv, score, metrics, early_stopping, callbacks)
        asking = Asking(sample, sampler, halving, keep, seed)
        if refit is not None:
            refit = validation.flag("refit", refit)
        with bars.count(progress, "net") as bar:
            search = Search(self._space, self._make, given, steps, judging, asking)
            self.result = search.result
            search.run(bar)
        if (cv is not None if refit is None else refit) and headline(self.result):
            self.result.net = search.refit(self.result.best)
        return self.result
