"""A table split by keys once, its columns as arrays: thousands of small groups take too long as tables of their own."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[np.float64]
Column = npt.NDArray[Any]


class Rows:
    """Some rows of a table; `rows["lr"]` is a column of them.

    Args:
        columns: Of the whole table, by name.
        at: Which rows.
    """

    __slots__ = ("_at", "_columns")

    def __init__(self, columns: dict[str, Column], at: "slice | npt.NDArray[np.intp]") -> None:
        self._columns, self._at = columns, at

    def __getitem__(self, name: str) -> Column:
        values: Column = self._columns[name][self._at]
        return values

    def __len__(self) -> int:
        return self._at.stop - self._at.start if isinstance(self._at, slice) else len(self._at)

    def where(self, keep: npt.NDArray[np.bool_]) -> "Rows":
        """Return the rows that are kept, shape of `keep` (rows,)."""
        at = np.arange(self._at.start, self._at.stop) if isinstance(self._at, slice) else self._at
        return Rows(self._columns, at[keep])

    def of(self, batch_size: float) -> "Rows":
        """Return the rows of a batch size."""
        return self.where(self["batch_size"] == batch_size)

    def first(self, name: str) -> Any:
        """Return a column's first value, of which the others are copies."""
        return self[name][0]

    def ends(self) -> "tuple[int, int] | None":
        """Return the smallest and the largest batch size; None where there are not two."""
        sizes = self["batch_size"]
        if not sizes.size:
            return None
        small, large = int(sizes.min()), int(sizes.max())
        return (small, large) if small < large else None

    def wide(self, name: str = "value") -> "Wide":
        """Return a column as seeds × batch sizes."""
        seeds, row = np.unique(self["seed"], return_inverse=True)
        sizes, column = np.unique(self["batch_size"], return_inverse=True)
        # Batch size by batch size in memory: statistics go over the seeds of each.
        table = np.full((seeds.size, sizes.size), np.nan, order="F")
        table[row, column] = self[name]
        return Wide(seeds, sizes.astype(float), table)

    def at_seeds(self, name: str, seeds: npt.NDArray[np.int64]) -> Column:
        """Return a column at some seeds, each of which has one row."""
        order = np.argsort(self["seed"], kind="stable")
        return self[name][order[np.searchsorted(self["seed"][order], seeds)]]

    def pairs(self, name: str, sizes: tuple[int, int]) -> Array:
        """Return a column at two batch sizes, shape (seeds, 2), of the seeds that have a number at both, ascending."""
        parts = [self.of(size) for size in sizes]
        seeds = shared_seeds(parts)
        table: Array = np.array([part.at_seeds(name, seeds) for part in parts], dtype=float).T
        return table[~np.isnan(table).any(axis=1)]


@dataclass(frozen=True)
class Wide:
    """A column as seeds × batch sizes.

    Attributes:
        seeds: Shape (seeds,), ascending.
        sizes: Shape (batches,), ascending.
        table: Shape (seeds, batches), nan where there is none.
    """

    seeds: npt.NDArray[np.int64]
    sizes: Array
    table: Array

    def known(self) -> "Wide":
        """Return it with the batch sizes alone at which every seed has a number."""
        whole = ~np.isnan(self.table).any(axis=0)
        return Wide(self.seeds, self.sizes[whole], self.table[:, whole])

    def of(self, seeds: npt.NDArray[np.int64]) -> "Wide":
        """Return it with some of its seeds."""
        return Wide(seeds, self.sizes, self.table[np.searchsorted(self.seeds, seeds)])

    def at(self, size: float) -> Array:
        """Return the column of a batch size, shape (seeds,)."""
        column: Array = self.table[:, np.searchsorted(self.sizes, size)]
        return column


def shared_seeds(parts: Sequence[Rows]) -> npt.NDArray[np.int64]:
    """Return the seeds that all parts have, ascending."""
    first = parts[0]["seed"]
    if all(np.array_equal(first, part["seed"]) for part in parts[1:]):
        return np.sort(first)
    return functools.reduce(np.intersect1d, (part["seed"] for part in parts))


def split(table: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], Rows]]:
    """Yield the values of some columns, in their order, and the rows that have them, as the table has these.

    Args:
        table: Without a missing value in the keys.
        keys: Names of columns.
    """
    if table.empty:
        return
    code = codes(table, keys)
    order = np.argsort(code, kind="stable")
    columns = {str(name): table[name].to_numpy()[order] for name in table.columns}
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    heads = zip(*(columns[key][starts].tolist() for key in keys), strict=True)
    ends = [*starts[1:].tolist(), len(table)]
    for key, start, end in zip(heads, starts.tolist(), ends, strict=True):
        yield key, Rows(columns, slice(start, end))


def codes(table: pd.DataFrame, keys: Sequence[str]) -> npt.NDArray[np.int64]:
    """Number the rows so that equal keys get equal numbers, from 0 on, in the order of the keys."""
    code = np.zeros(len(table), dtype=np.int64)
    for key in keys:
        numbers, labels = pd.factorize(table[key], sort=True)
        code = code * max(len(labels), 1) + numbers
    return code


class Groups:
    """The rows of a table by the values of some columns; values that it has not have no rows.

    Args:
        table: As for `split`.
        keys: Names of columns, one at least.
    """

    def __init__(self, table: pd.DataFrame, keys: Sequence[str]) -> None:
        self._found = dict(split(table, keys))
        self._none = Rows({str(name): table[name].to_numpy()[:0] for name in table.columns}, slice(0, 0))

    def __getitem__(self, key: tuple[Any, ...]) -> Rows:
        return self._found.get(key, self._none)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._found)

    def items(self) -> Iterator[tuple[tuple[Any, ...], Rows]]:
        """Yield keys with their rows, in the order of the keys."""
        yield from self._found.items()
