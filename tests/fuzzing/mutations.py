"""Sweeps whose files somebody or something has changed: by structure, by type, by byte, by what is in their place."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from bench.results.checksums import FILE as CHECKSUMS
from bench.results.checksums import read_checksums, write_checksums
from tests.fuzzing.template import SWEEP

#: What must come out of an HTML page escaped, whichever field it was in.
MARKUP = (
    "<script>fuzz()</script>",
    '"><img src=x onerror=fuzz()>',
    "'-fuzz()-'",
    "</style><svg onload=fuzz()>",
    "{{ 7*7 }}",
)
FORMULAS = ("=cmd|' /C calc'!A0", "+1+fuzz()", "-2+fuzz()", "@SUM(1)", "\t=1", "\r=1")
CODE = (
    "planted:Planted",
    "planted.py:Planted",
    "./planted.py:planted",
    "torch.optim:SGD",
    "os:system",
    "bench.cli:main",
)
PATHS = ("../../../escaped", "/tmp/../escaped", "~/x", "a/../../b", "C:\\x", "file:///etc/passwd", "", ".", "..")
TEXTS = (
    *(
        "${oc.env:HOME}",
        "${nothing}",
        "???",
        "a" * 100_000,
        "\x00",
        "\n\nbench: all well",
        "\x1b[2J",
        "\ud800",
        "é" * 50,
        "$x$",
    ),
    *(
        "\\frac{$",
        "$\\frac{$",
        "nan",
        "NaN",
        "1",
        "true",
        "null",
        "\u2028",
        "]]>",
        "&amp;",
        "%s",
        "{0}",
        "a\tb",
        "complete",
        "|a|b|",
    ),
)
NUMBERS = (
    *(0, 1, -1, 2, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, 0.5, -0.5, 1e308, -1e308, 1e-320, 5e-324, 0.0, -0.0),
    *(float("nan"), float("inf"), float("-inf"), True, False, 64, 4096, 1.0, 1e15),
)


def _deep(levels: int, of: type) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if of is list else {"a": value}
    return value


def nasty() -> st.SearchStrategy[Any]:
    """A value that a field of a record might have and should not."""
    return st.one_of(
        *(st.sampled_from(pool) for pool in (MARKUP, FORMULAS, CODE, PATHS, TEXTS, NUMBERS, NUMBERS)),
        st.sampled_from(([], {}, None, [None], [[]], {"": None}, [1, "a", {}], {"a": float("nan")})),
        st.sampled_from((50, 200)).map(lambda levels: _deep(levels, list)),
        st.sampled_from((50, 200)).map(lambda levels: _deep(levels, dict)),
        st.text(max_size=10),
        st.integers(),
        st.floats(allow_subnormal=False),
    )


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a tree below its root, as keys and indices."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place for key, value in items for place in [(*path, key), *_places(value, (*path, key))]]


@st.composite
def _restructured(draw: st.DrawFn, raw: bytes) -> bytes:
    """JSON in which some fields are gone, others, of other types, renamed or doubled."""
    tree = json.loads(raw)
    for _ in range(draw(st.integers(1, 3))):
        every = _places(tree)
        # Fields of the record itself, and below its configuration and axes, as often as those of its many trials.
        few = [place for place in every if len(place) <= 2 or place[0] in ("axes", "config")]
        place = draw(st.sampled_from(draw(st.sampled_from((few or every, every))) or [()]))
        if not place:
            continue
        node = tree
        for key in place[:-1]:
            node = node[key]
        match draw(st.integers(0, 9)):
            case 0:
                del node[place[-1]]
            case 1 if isinstance(node, dict):
                node[draw(st.sampled_from(("x", "", "__class__", "é", "=a", MARKUP[0])))] = node.pop(place[-1])
            case 2 if isinstance(node, list):
                node.extend([*node] * draw(st.sampled_from((1, 30))))
            case 3:
                node[place[-1]] = [node[place[-1]]]
            case _:
                node[place[-1]] = draw(nasty())
    text = json.dumps(tree, indent=draw(st.sampled_from((1, 1, None))), sort_keys=True)
    if draw(st.integers(0, 9)) == 0:
        text = text.replace(
            '"schema": 1',
            draw(st.sampled_from(('"schema": 2', '"schema": 0', '"schema": 1e0', '"schema": 1, "schema": 2'))),
        )
    return (text + draw(st.sampled_from(("\n", "\n", "", "\n\n{}", "\x00")))).encode("utf-8", "surrogatepass")


@st.composite
def _rewritten(draw: st.DrawFn, raw: bytes) -> bytes:
    """Parquet with a column gone, of another type, null, not finite, doubled, or without rows."""
    table = pq.read_table(pa.BufferReader(raw))
    names = table.schema.names
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(names) - 1))
        if at >= table.num_columns:
            continue
        count = table.num_rows
        others = (
            pa.nulls(count, table.schema.field(at).type),
            pa.array([draw(st.sampled_from(MARKUP + FORMULAS + TEXTS[:4]))] * count, pa.string())
            if draw(st.booleans())
            else pa.array(["loss"] * count, pa.large_string()),
            pa.array(np.full(count, draw(st.sampled_from((np.nan, np.inf, -1.0, 1e308, 0.0))))),
            pa.array(np.full(count, draw(st.sampled_from((0, -1, 2**62))), dtype=np.int64)),
            pa.array([[1.0]] * count),
            pa.array([b"\xff"] * count, pa.binary()),
            pa.array([None] * count, pa.null()),
        )
        name = table.schema.names[at]
        match draw(st.integers(0, 6)):
            case 0:
                table = table.remove_column(at)
            case 1:
                table = table.slice(0, draw(st.sampled_from((0, 1, count // 2))))
            case 2:
                table = pa.concat_tables([table, table])
            case 3:
                table = table.append_column("more", table.column(at))
            case 4:
                table = table.set_column(at, draw(st.sampled_from(("x", "", "lr", "value"))), table.column(at))
            case _:
                table = table.set_column(at, name, draw(st.sampled_from(others)))
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


@st.composite
def _bytes(draw: st.DrawFn, raw: bytes) -> bytes:
    """A file that was cut off, whose bits were flipped, or that is something else."""
    match draw(st.integers(0, 5)):
        case 0:
            return raw[: draw(st.integers(0, len(raw)))]
        case 1:
            return draw(
                st.sampled_from(
                    (b"", b"\xff\xfe\xfd", b"null", b"[]", b"{}", b"\xef\xbb\xbf" + raw, b"PAR1", b"[" * 100_000, b"1")
                )
            )
        case 2:
            at = draw(st.integers(0, len(raw)))
            return raw[:at] + draw(st.binary(min_size=1, max_size=20)) + raw[at:]
        case _:
            flipped = bytearray(raw)
            for _ in range(draw(st.integers(1, 8))):
                # Half of them in the last bytes, where Parquet has its plan.
                low = draw(st.sampled_from((0, max(0, len(raw) - 1500))))
                flipped[draw(st.integers(low, len(raw) - 1))] ^= 1 << draw(st.integers(0, 7))
            return bytes(flipped)


Mutation = tuple[str, Callable[[Path], None]]


@st.composite
def mutations(draw: st.DrawFn, sweep: Path) -> Mutation:
    """Return what is done to a sweep, in words and as a function of the sweep's folder.

    Args:
        sweep: The sweep as it was made, to draw from; not changed.
    """
    files = sorted(path.relative_to(sweep) for path in sweep.rglob("*") if path.is_file() and path.name != "lock")
    # Mostly records, for that is where most fields are.
    kinds = st.sampled_from((*["record.json"] * 6, *["curves.parquet"] * 3, "snapshots.parquet", "plan.json"))
    wanted = draw(kinds)
    name = draw(st.sampled_from([file for file in files if file.name == wanted]))
    raw = (sweep / name).read_bytes()
    how = draw(st.integers(0, 11))
    # Who changes a file on purpose changes its checksum too.
    agreeing = draw(st.integers(0, 3)) > 0
    if how <= 6:
        content = draw(_restructured(raw) if name.suffix == ".json" else _rewritten(raw))
        return f"{name}: restructured", lambda folder: _put(folder / name, content, agreeing)
    if how <= 9:
        content = draw(_bytes(raw))
        return f"{name}: bytes", lambda folder: _put(folder / name, content, agreeing)
    return draw(_places_taken(name, files))


def _put(path: Path, content: bytes, agreeing: bool = False) -> None:
    path.write_bytes(content)
    if agreeing and (path.parent / CHECKSUMS).exists():
        write_checksums(path.parent, read_checksums(str(path.parent)))


@st.composite
def _places_taken(draw: st.DrawFn, name: Path, files: list[Path]) -> Mutation:
    """Something else is where a file was."""
    other = draw(st.sampled_from(files))
    target = draw(st.sampled_from((str(name.name), "nowhere", "../../../file", "/dev/null", "/proc/self/mem", "..")))
    lease = draw(
        st.one_of(
            st.just(b"{}"),
            nasty().map(lambda value: json.dumps({"cell": value, "host": value}).encode("utf-8", "replace")),
        )
    )

    def link(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    def directory(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    def swapped(folder: Path) -> None:
        first, second = (folder / name).read_bytes(), (folder / other).read_bytes()
        _put(folder / name, second)
        _put(folder / other, first)

    def cell(make: Callable[[Path], object]) -> Callable[[Path], None]:
        def replace(folder: Path) -> None:
            path = folder / name.parent if name.parent.name else folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            make(path)

        return replace

    def beside(content: bytes, at: str) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            (folder / at).parent.mkdir(parents=True, exist_ok=True)
            _put(folder / at, content)

        return write

    first = files[0].parent.name
    return draw(
        st.sampled_from(
            (
                (f"{name}: a link to {target}", link),
                (f"{name}: a folder", directory),
                (f"{name} and {other}: swapped", swapped),
                (f"{name}: gone", lambda folder: (folder / name).unlink()),
                (f"{name}: its folder is a file", cell(lambda path: path.write_bytes(b"x"))),
                (f"{name}: its folder is empty", cell(lambda path: path.mkdir())),
                (f"{name}: its folder is a link", cell(lambda path: path.symlink_to(".."))),
                (f"leases/{first}.json: written", beside(lease, f"leases/{first}.json")),
                ("mirror.json: written", beside(lease, "mirror.json")),
                (
                    "mirror.json: cells of nothing",
                    beside(b'{"tracker": "wandb", "mode": "offline", "cells": {"x": 3}}', "mirror.json"),
                ),
                ("a cell more: a file", beside(b"x", "0123456789abcdef")),
                ("a cell more: empty", beside(b"{}", "0123456789abcdef/record.json")),
            )
        )
    )


def sweep_of(folder: Path) -> Path:
    """Return the folder of the sweep that is changed."""
    return folder / "results" / SWEEP
