"""Weights in 4 bits: blocks of 32 along the input of a product, each with a scale, values of -8 to 7.

Numpy arrays only: it knows neither the graph they end up in nor the runtime that will run them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
SHRINKS = np.linspace(0.75, 1.0, 11, dtype=np.float32)
DAMPING = 0.01

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Activation:
    """What entered a product on sample texts: the range to be kept, and the mean of x x^T, float64 (rows, rows)."""

    low: float
    high: float
    gram: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Blocks:
    """`values` uint8 (slices, blocks, 32) of 0 to 15, where 8 stands for 0; `scale` float32 (slices, blocks)."""

    values: NDArray[np.uint8]
    scale: Matrix


def quantise_rows(table: Matrix) -> Blocks:
    """Round each row of a table (n, width) in blocks, each with the scale of least squared error of those tried.

    A width that is no multiple of 32 raises ValueError.
    """
    blocks = table.reshape(len(table), -1, BLOCK)
    scale = _scales(blocks)
    return Blocks(_rounded(blocks, scale[:, :, None]), scale)


def quantise_blocks(matrix: Matrix, gram: NDArray[np.float64] | None = None) -> Blocks:
    """Round a matrix (inputs, outputs) in blocks along its inputs; a slice is one output.

    With `gram`, the mean of x x^T over inputs that were seen, each input's error is passed on to the inputs that are
    not yet rounded, so that the products differ least (GPTQ: Frantar et al., ICLR 2023, algorithm 1).
    """
    inputs, outputs = matrix.shape
    wide = -(-inputs // BLOCK) * BLOCK
    left = np.zeros((outputs, wide), np.float32)
    left[:, :inputs] = matrix.T
    if gram is None:
        return quantise_rows(left)
    factor = _inverse_factor(gram, wide)
    values = np.empty((outputs, wide), np.uint8)
    scales = np.empty((outputs, wide // BLOCK), np.float32)
    for start in range(0, wide, BLOCK):
        stop = start + BLOCK
        part, errors = left[:, start:stop].copy(), np.empty((outputs, BLOCK), np.float32)
        scale = scales[:, start // BLOCK] = _scales(part[:, None, :])[:, 0]
        for column in range(BLOCK):
            place = start + column
            values[:, place] = _rounded(part[:, column], scale)
            real = (values[:, place].astype(np.float32) - 8.0) * scale
            errors[:, column] = (part[:, column] - real) / factor[place, place]
            part[:, column + 1 :] -= np.outer(errors[:, column], factor[place, place + 1 : stop])
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    return Blocks(values.reshape(outputs, -1, BLOCK), scales)


def pack(values: NDArray[np.uint8], *, half: bool = False) -> NDArray[np.uint8]:
    """Put two values into each byte: neighbours, the first one low; with `half`, those half a slice apart.

    Returns uint8 (slices, blocks, 16), or (slices, width / 2) with `half`.
    """
    if half:
        flat = values.reshape(len(values), 2, -1)
        return _joined(flat[:, 0], flat[:, 1])
    return _joined(values[..., 0::2], values[..., 1::2])


def _joined(low: NDArray[np.uint8], high: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(low + 16 * high, np.uint8)


def _scales(blocks: Matrix) -> Matrix:
    """Return the scale of each block (n, b, 32) that leaves the least squared error, of eleven below the largest."""
    largest = np.abs(blocks).max(axis=2) / 7.5
    largest = np.where(largest > 0, largest, 1.0).astype(np.float32)
    best, least = largest, np.full(largest.shape, np.inf, np.float32)
    for shrink in SHRINKS:
        scale = largest * shrink
        real = (_rounded(blocks, scale[:, :, None]).astype(np.float32) - 8.0) * scale[:, :, None]
        error = ((real - blocks) ** 2).sum(axis=2)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best


def _rounded(values: Matrix, scale: Matrix) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(values / scale) + 8.0, 0, 15), np.uint8)


def _inverse_factor(gram: NDArray[np.float64], wide: int) -> Matrix:
    """Return the upper Cholesky factor of the inverse of the damped Gram matrix, padded to `wide`."""
    padded = np.eye(wide) * max(float(np.trace(gram)) / len(gram), 1e-12)
    padded[: len(gram), : len(gram)] = gram
    damped = padded + DAMPING * np.trace(padded) / wide * np.eye(wide)
    factor: Matrix = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    return factor
