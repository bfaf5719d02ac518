"""A second witness: how many instructions a call takes, counted by callgrind. It does not drift with the machine.

It is no gate: 5 % more time read as 14 to 17 % more instructions, and instructions differ in what they cost.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.errors import UsageError
from bench.speed.arms import Arm, CaseEnded, Code
from bench.speed.pairs import WARM_CALLS

#: Under callgrind everything takes some fifty times as long.
PATIENCE = 600.0
#: Calls counted.
CALLS = 3
_TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


def require_callgrind() -> str:
    """Return the path of valgrind.

    Raises:
        UsageError: It is not installed.
    """
    found = shutil.which("valgrind")
    if found is None:
        raise UsageError("--instructions: valgrind is not on the PATH (on Debian and Ubuntu: apt install valgrind)")
    return found


def count_instructions(
    base: Code, head: Code, cases: Sequence[str], say: Callable[[str], None]
) -> dict[str, tuple[float, float]]:
    """Count the instructions of one call of each case in both arms.

    Args:
        base: Base's code.
        head: Head's code.
        cases: Node ids.
        say: Told what goes on.

    Returns:
        Case → instructions of base and of head; cases that did not run are missing.
    """
    counts = [_count(code, cases, say) for code in (base, head)]
    return {case: (counts[0][case], counts[1][case]) for case in cases if all(case in count for count in counts)}


def _count(code: Code, cases: Sequence[str], say: Callable[[str], None]) -> dict[str, float]:
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-speed-callgrind.") as folder:
        prefix = [require_callgrind(), "--tool=callgrind", "--collect-atstart=no", f"--callgrind-out-file={folder}/%p"]
        arm = Arm(code, prefix=prefix)
        try:
            arm.collect(PATIENCE)
            for case in cases:
                say(f"counting instructions in {code.label}: {case.rpartition('::')[2]}")
                for old in Path(folder).iterdir():
                    old.unlink()
                try:
                    with arm.case(case, True, PATIENCE) as running:
                        for _ in range(WARM_CALLS):
                            running.call()
                        running.instructions(CALLS)
                except CaseEnded:
                    continue
                # One dump for every part of the child's life; the counted part is the one with instructions in it.
                totals = [int(n) for path in Path(folder).iterdir() for n in _TOTAL.findall(path.read_text())]
                if any(totals):
                    found[case] = max(totals) / CALLS
        finally:
            arm.close()
    return found
