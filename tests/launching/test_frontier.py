"""`bench frontier` from end to end, in little memory."""

import json
from pathlib import Path

import pytest

from bench.cli import main
from bench.measure.frontier import PRECISION, Attempt

WORDS = ("frontier", "task=mnist5k/mlp", "optimizer=adam")


def ended(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_predicted_and_found(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "frontier.json"
    assert ended(*WORDS, "--limit-mib", "128", "-o", str(out)) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    words = capfd.readouterr().out
    assert f"{found['predicted']:,} predicted, {found['found']:,} found" in words
    assert "fits, " in words
    fitted = [a["batch_size"] for a in found["tried"] if a["peak_bytes"] is not None]
    failed = [a["batch_size"] for a in found["tried"] if a["peak_bytes"] is None]
    assert found["found"] == max(fitted) < min(failed) <= max(fitted) * (1 + PRECISION) + 1
    # 128 MiB hold no more examples than their pixels and hidden units alone fill, and at least a fifth of that.
    most = 128 * 2**20 / (4 * (784 + 128))
    assert most / 5 < found["found"] < most
    assert found["activations"]["slope"] > 4 * 784


class Proportional:
    """Stands in for the process that tries batches: each example takes a KiB."""

    def __init__(self, *given: object) -> None:
        pass

    def __call__(self, size: int) -> Attempt:
        return Attempt(size, 1024 * size)

    def close(self) -> None:
        pass


def test_the_largest_to_try_is_the_end_of_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.launching.frontier._Trier", Proportional)
    assert ended(*WORDS, "--limit-mib", "256", "--most", "64") == 0
    assert "largest batch: 64 predicted, 64 found (+0.0%)" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--limit-mib", "0"), "--limit-mib 0: must be greater than 0"),
        (("--limit-mib", "1e9"), "--limit-mib 1e+09: at most half of what is free here"),
        (("--most", "0"), "--most 0: must be at least 1"),
        (("optimizer=adma",), "adam"),
    ],
)
def test_bad_input(words: tuple[str, ...], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert ended(*WORDS[:2], *words) == 2
    out, err = capfd.readouterr()
    assert said in err
    assert "Traceback" not in out + err
