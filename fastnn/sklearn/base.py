"""What estimators over a net share."""

from typing import Any

from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from ..backends import Floats
from . import inputs


class NetEstimator(BaseEstimator):
    """An estimator over a net, `net_`, that takes sparse samples, too, or tables where `columns` is set."""

    columns: Any

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.columns is None
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = self.columns is not None
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "net_")


class NetClassifier(ClassifierMixin, NetEstimator):
    """A classifier over a net, whose `coding_` is an `inputs.Coding`."""

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The likeliest labels.

        Parameters
        ----------
        X : array-like or sparse matrix (m, n)
            Samples.

        Returns
        -------
        array (m,) or (m, k)
            Labels; 0 and 1 (m, k) for k labels that do not exclude each other.
        """
        check_is_fitted(self)
        return self.coding_.decoded(inputs.outputs_of(self, X))

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Probabilities of the labels.

        Parameters
        ----------
        X : array-like or sparse matrix (m, n)
            Samples.

        Returns
        -------
        array (m, c)
            A column for each of `classes_`, in the net's dtype.
        """
        check_is_fitted(self)
        return self.coding_.probabilities(inputs.outputs_of(self, X))

    def predict_log_proba(self, X: ArrayLike) -> Floats:
        """Logarithms of the probabilities, which are finite also where these are rounded to 0.

        Parameters
        ----------
        X : array-like or sparse matrix (m, n)
            Samples.

        Returns
        -------
        array (m, c)
            A column for each of `classes_`, in the net's dtype.
        """
        check_is_fitted(self)
        return self.coding_.log_probabilities(self._logits(X))

    def decision_function(self, X: ArrayLike) -> Floats:
        """What the last layer gives before sigmoid or softmax.

        Parameters
        ----------
        X : array-like or sparse matrix (m, n)
            Samples.

        Returns
        -------
        array (m,) or (m, c)
            (m,) for two classes: above 0 the second one is likelier. In the net's dtype.
        """
        check_is_fitted(self)
        logits = self._logits(X)
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def _logits(self, X):
        return inputs.outputs_of(self, X, inputs.linear_outputs(self.net_))
