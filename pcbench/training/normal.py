"""Symmetric positive definite systems (G + ridge) x = b, for several ridges, in the memory of one matrix."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack
from torch import Tensor

from pcbench.errors import RunError

Array = NDArray[np.float64]

BLOCK = 512
TOLERANCE = 1e-2  # of an approximate solution, in the norm that the prediction error is measured in
STEPS = 30
SMALL = 4096  # a matrix up to that many rows is factored anew in less time than the approximation takes


class Normal:
    """A matrix G with the Cholesky factor of G + ridge.

    The factor takes the lower triangle; G, being symmetric, stays in the upper one, so another ridge needs no copy.

    Args:
        gram: (n, n) float64, symmetric, contiguous; its memory is taken over.
    """

    def __init__(self, gram: Tensor) -> None:
        self._matrix: Array = gram.numpy().T  # in the order of LAPACK
        self._diagonal: Array = self._matrix.diagonal().copy()
        self.ridge = -1.0

    def factor(self, ridge: float) -> None:
        """Factor G + ridge. Raises RunError when that is not positive definite."""
        if ridge == self.ridge or not len(self._diagonal):
            return
        a, n = self._matrix, len(self._diagonal)
        for begin in range(0, n, BLOCK):
            end = min(n, begin + BLOCK)
            a[end:, begin:end] = a[begin:end, end:].T
            square = a[begin:end, begin:end]
            upper = np.triu(square, 1)
            square[...] = upper + upper.T
        np.fill_diagonal(a, self._diagonal + ridge)
        factored, info = lapack.dpotrf(a, lower=1, clean=0, overwrite_a=1)
        if info != 0 or not np.shares_memory(factored, a):
            raise RunError(f"the normal matrix with ridge {ridge:.3g} has no Cholesky factor ({info})")
        self.ridge = ridge

    def solve(self, b: Array) -> Array:
        """The solution for the ridge of the factor; b (n, k)."""
        if not len(b):
            return b
        x, _ = lapack.dpotrs(self._matrix, np.asfortranarray(b), lower=1)
        return np.asarray(x)

    def times(self, x: Array) -> Array:
        """The product G x."""
        if not len(x):
            return x
        product = blas.dsymm(1.0, self._matrix, np.asfortranarray(x), lower=0)
        return np.asarray(product) + (self._diagonal - self._matrix.diagonal())[:, None] * x

    def approach(self, ridge: float, b: Array, start: Array) -> Array:
        """A solution for another ridge: exact for a small matrix, else by conjugate gradients from a start.

        The factor preconditions them: the eigenvalues then lie between 1 and ridge / self.ridge, so that a few steps,
        each a thousandth of a factorisation, are enough.
        """
        if len(b) <= SMALL:
            self.factor(ridge)
            return self.solve(b)
        x = start.copy()
        residual = b - self.times(x) - ridge * x
        scale = (b * self.solve(b)).sum(0)
        z = self.solve(residual)
        direction, size = z.copy(), (residual * z).sum(0)
        for _ in range(STEPS):
            if np.all(size <= TOLERANCE**2 * scale):
                break
            product = self.times(direction) + ridge * direction
            length = size / np.maximum((direction * product).sum(0), np.finfo(float).tiny)
            x += length * direction
            residual -= length * product
            z = self.solve(residual)
            before, size = size, (residual * z).sum(0)
            direction = z + size / np.maximum(before, np.finfo(float).tiny) * direction
        return x
