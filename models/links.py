"""The functions that make a model's outputs of its raw margins."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.models.manifest import Link

_Margins = npt.NDArray[Any]


def _sigmoid(margins: _Margins) -> _Margins:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-margins.astype(np.float64))))


def _exp(margins: _Margins) -> _Margins:
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(margins.astype(np.float64)))


def _identity(margins: _Margins) -> _Margins:
    return margins


def _softmax(margins: _Margins) -> _Margins:
    exponents = np.exp(margins.astype(np.float64) - margins.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


LINKS: dict[Link, Callable[[_Margins], _Margins]] = {
    "sigmoid": _sigmoid,
    "exp": _exp,
    "identity": _identity,
    "softmax": _softmax,
}
"""Margins of shape (rows, outputs) to outputs of the same shape, in 64 bits."""
