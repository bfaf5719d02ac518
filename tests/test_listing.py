"""Listings name everything there is to choose."""

import pytest

from bench.composition import choices
from bench.listing import LISTINGS, print_table
from tests.cases import CONF, OPTIMIZERS


def names(group: str) -> list[str]:
    files = [path for path in (CONF / group).rglob("*.yaml") if path.stem != "default"]
    return sorted(path.relative_to(CONF / group).with_suffix("").as_posix() for path in files)


@pytest.mark.parametrize(
    ("listing", "group"), [("tasks", "task"), ("optimizers", "optimizer"), ("experiments", "experiment")]
)
def test_every_file_is_listed_with_words(listing: str, group: str) -> None:
    _, header, rows = LISTINGS[listing]()
    assert [row[0] for row in rows] == choices(group)
    assert set(names(group)) <= {row[0] for row in rows}
    for row in rows:
        assert len(row) == len(header)
        assert all(str(value).strip() for value in row)


def test_optimizers_are_told_with_class_grid_and_comment() -> None:
    _, header, rows = LISTINGS["optimizers"]()
    adam = dict(zip(header, next(row for row in rows if row[0] == "adam"), strict=True))
    first, last = OPTIMIZERS["adam"]["lr_log2"]
    assert adam == {
        "optimizer": "adam",
        "what it is": "Adam with torch's default betas and epsilon.",
        "class": "torch.optim.Adam",
        "requires": "nothing",
        "implementations": "default, forloop, foreach, fused",
        "learning rates": f"2^{first} … 2^{last}",
        "known answer": "its published rule in NumPy; optax",
    }


@pytest.mark.parametrize("listing", ["tasks", "optimizers"])
def test_every_task_and_optimizer_says_what_it_requires_and_what_proves_it(listing: str) -> None:
    _, header, rows = LISTINGS[listing]()
    for row in rows:
        told = dict(zip(header, row, strict=True))
        assert told["requires"]
        assert told["known answer"] not in ("", "none"), told


def test_experiments_are_told_without_their_package_line() -> None:
    _, _, rows = LISTINGS["experiments"]()
    quickstart = next(row for row in rows if row[0] == "quickstart")
    assert str(quickstart[1]).startswith("What batch size does on 5 000 real digits")
    assert "@package" not in str(quickstart[1])
    assert "batch_size=4,16,64,256,1024,full" in str(quickstart[2])


def test_a_pipe_gets_full_lines_and_brackets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("title", ("a", "b"), [("[red]x[/red]", "y" * 120)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "title"
    assert lines[1].split() == ["a", "b"]
    assert lines[2].split() == ["[red]x[/red]", "y" * 120]


def test_measures_are_listed_with_what_they_are_and_their_metrics() -> None:
    _, _, rows = LISTINGS["measures"]()
    assert ("sam", "Rise of the loss within a ball of radius .05 (2010.01412).", "sam") in rows
    metrics = [metric for row in rows for metric in str(row[2]).split(", ")]
    assert len(metrics) == len(set(metrics))
