"""Tables split by keys: the groups, their order and their pivots are those that pandas finds."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.rows import Groups, shared_seeds, split

#: Each of the rows: a task, a batch size, a seed, each such triple once at most.
ROWS = st.lists(
    st.tuples(st.sampled_from(["b", "a", "c"]), st.sampled_from([16, 4, 256]), st.integers(0, 4)), unique=True
)


def table(rows: list[tuple[str, int, int]]) -> pd.DataFrame:
    made = pd.DataFrame(rows, columns=["task", "batch_size", "seed"])
    return made.assign(value=np.sqrt(np.arange(len(made)) + 2.0))


@given(ROWS)
def test_groups_are_those_of_pandas_in_their_order(rows: list[tuple[str, int, int]]) -> None:
    made = table(rows)
    expected = {key: group["value"].tolist() for key, group in made.groupby(["task", "seed"])}
    found = {key: group["value"].tolist() for key, group in split(made, ["task", "seed"])}
    assert list(found.items()) == list(expected.items())


@given(ROWS)
def test_seeds_by_batch_sizes_are_a_pivot(rows: list[tuple[str, int, int]]) -> None:
    made = table(rows)
    groups = Groups(made, ["task"])
    for key, group in made.groupby("task"):
        expected = group.pivot(index="seed", columns="batch_size", values="value")
        found = groups[(key,)].wide()
        assert (found.seeds.tolist(), found.sizes.tolist()) == (expected.index.tolist(), expected.columns.tolist())
        np.testing.assert_array_equal(found.table, expected.to_numpy())
        whole = expected.dropna(axis=1)
        assert found.known().sizes.tolist() == whole.columns.tolist()
        ends = groups[(key,)].ends()
        assert (ends is None) == (len(expected.columns) < 2)
        if ends is not None:
            np.testing.assert_array_equal(groups[(key,)].pairs("value", ends), expected[list(ends)].dropna().to_numpy())


def test_a_key_without_rows_has_none_of_any_column() -> None:
    rows = Groups(table([("a", 16, 0)]), ["task"])[("nobody",)]
    assert (len(rows), rows.ends(), rows["value"].tolist()) == (0, None, [])
    assert rows.wide().table.shape == (0, 0)


def test_rows_of_rows() -> None:
    rows = Groups(table([("a", 16, 3), ("a", 4, 3), ("a", 16, 1), ("b", 16, 0)]), ["task"])[("a",)]
    large = rows.of(16)
    assert (len(large), large["seed"].tolist(), large.where(large["seed"] < 2)["seed"].tolist()) == (2, [3, 1], [1])
    assert large.at_seeds("value", np.array([1, 3])).tolist() == [2.0, np.sqrt(2.0)]
    assert shared_seeds([large, rows.of(4)]).tolist() == [3]
