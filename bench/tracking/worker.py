"""The child that mirrors: `python -m bench.tracking.worker`, started by `bench.tracking.mirror` alone.

It reads `job.json` in the scratch folder it is given and answers with one JSON line per cell. When its
standard input closes, its parent is gone: it removes that folder and ends. Only here does wandb write.
"""

import base64
import hashlib
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from bench.results.record import RecordError
from bench.results.store import Store
from bench.tracking import content
from bench.tracking.confinement import one_line
from bench.tracking.state import record_sha256

# A failure of these classes, or this many of any others in a row, will meet the next cell too.
_REPEATING = (
    "OSError",
    "CommError",
    "UsageError",
    "AuthenticationError",
    "MailboxClosedError",
    "WandbServiceError",
)
_IN_A_ROW = 3

#: How long the last block of a run's log may take to reach the file, seconds.
LATE_SECONDS = 2.0
_BLOCK = 32768
_CHUNK_HEADER = 7


class Incomplete(OSError):
    """wandb reported success, but what it wrote is not whole."""


def seal_found(log: Path, seal: str) -> bool:
    """Tell whether a run's log holds the last thing that was said to the run.

    wandb keeps quiet about a log it could not write. The log is cut into blocks of 32 KiB, each of which
    begins with a 7-byte header; a seal that straddles two blocks has such a header within it.
    """
    raw = log.read_bytes()
    blocks = (raw[at + (_CHUNK_HEADER if at else 0) : at + _BLOCK] for at in range(0, len(raw), _BLOCK))
    return seal.encode() in b"".join(blocks)


def md5_base64(file: Path) -> str:
    """Return the digest by which a W&B manifest knows a file."""
    return base64.b64encode(hashlib.md5(file.read_bytes(), usedforsecurity=False).digest()).decode()


def _settings(wandb: Any) -> Any:
    """Keep wandb to what it is told: no watching of the machine, the code, the terminal or the packages."""
    wanted = {
        "console": "off",
        "silent": True,
        "quiet": True,
        "symlink": False,
        "disable_git": True,
        "disable_code": True,
        "save_code": False,
        "x_disable_stats": True,
        "x_disable_meta": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
        "host": "",
    }
    known = wandb.Settings.model_fields
    return wandb.Settings(**{name: value for name, value in wanted.items() if name in known})


def mirror_cell(wandb: Any, store: Store, cell: str, job: dict[str, Any]) -> dict[str, Any]:
    """Mirror one record into one run.

    Args:
        wandb: The imported package.
        store: The sweep.
        cell: Id of a cell that has a record.
        job: What the parent sent: the tracker's `mode`, `project`, `entity` and `folder`.

    Returns:
        The answer for this cell: digest, run and the run's folder.

    Raises:
        RecordError: The record cannot be read.
        OSError: It cannot be written, or was not written whole.
        Exception: Whatever else wandb raises.
    """
    digest = record_sha256(store, cell)
    record, curves = store.read(cell), store.curves(cell)
    rows = content.history(record, curves)
    columns, data = content.trials_table(record, curves)
    identity = content.run_id(store.sweep, cell, digest)
    run = wandb.init(
        id=identity,
        name=content.run_name(record),
        group=content.group(record),
        tags=content.tags(record),
        config=content.config(record),
        job_type="cell",
        project=job["project"],
        entity=job["entity"],
        mode=job["mode"],
        dir=job["folder"],
        settings=_settings(wandb),
    )
    folder = Path(run.dir).parent
    if folder.parent.parent != Path(job["folder"]).resolve() and folder.parent.parent != Path(job["folder"]):
        raise Incomplete(f"wandb went to another folder, {job['folder']} is not writable")
    # Copies that wandb stages for its upload stay in the run's own folder: it can be moved or deleted as one.
    os.environ["WANDB_DATA_DIR"] = str(folder / "data")
    _log(wandb, run, rows, content.sections(curves), (columns, data))
    run.summary.update(content.summary(record))
    artifact = wandb.Artifact(
        content.artifact_name(record),
        type=content.ARTIFACT_TYPE,
        metadata={"cell": cell, "sweep": store.sweep, "digest": record.digest},
    )
    for name in content.RECORD_FILES:
        artifact.add_file(str(store.cell_path(cell) / name), name=name, skip_cache=True)
    run.log_artifact(artifact)
    run.summary[content.SEAL] = digest
    run.finish()
    _check_written(store, cell, folder, identity, digest)
    # A link into a folder that ends with this process.
    (folder / "logs" / "debug-core.log").unlink(missing_ok=True)
    return {"cell": cell, "status": "mirrored", "digest": digest, "run": identity, "path": str(folder)}


def _log(wandb: Any, run: Any, rows: list[Any], sections: list[str], table: tuple[list[str], list[Any]]) -> None:
    # Hundreds of last values would bury the summary that is written by hand.
    for name in ("epoch", "examples"):
        run.define_metric(name, summary="none")
    for section in sections:
        run.define_metric(f"{section}/*", summary="none")
    # Cells of different batch sizes meet on equal budgets over epochs, not over steps.
    run.define_metric("best/*", step_metric="epoch", summary="none")
    for step, row in rows:
        run.log(row, step=step)
    columns, data = table
    if data:
        last = rows[-1][0] if rows else 0
        run.log({content.TABLE: wandb.Table(columns=columns, data=data, allow_mixed_types=True)}, step=last)


def _check_written(store: Store, cell: str, folder: Path, identity: str, digest: str) -> None:
    log = folder / f"run-{identity}.wandb"
    descriptor = os.open(log, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # On a busy machine the last block may reach the file a moment after wandb has called the run finished.
    end = time.monotonic() + LATE_SECONDS
    while not seal_found(log, digest) and time.monotonic() < end:
        time.sleep(0.05)
    if not seal_found(log, digest):
        raise Incomplete(f"wandb did not write the whole log ({_space(folder)})")
    staged = {md5_base64(file) for file in (folder / "data").rglob("*") if file.is_file()}
    for name in content.RECORD_FILES:
        if md5_base64(store.cell_path(cell) / name) not in staged:
            raise Incomplete(f"wandb did not keep a whole copy of {name} ({_space(folder)})")


def _space(folder: Path) -> str:
    free = os.statvfs(folder)
    return f"{free.f_bavail * free.f_frsize / 2**20:.1f} MiB free"


def _answer(stream: IO[str], answer: dict[str, Any]) -> None:
    stream.write(json.dumps(answer) + "\n")
    stream.flush()


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        # Without the names of temporary files, which say nothing and differ every time.
        return one_line(f"{type(error).__name__}: {error.strerror}")
    return one_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def _repeats(error: BaseException) -> bool:
    return any(kind.__name__ in _REPEATING for kind in type(error).__mro__)


def work(job: dict[str, Any], stream: IO[str]) -> None:
    """Mirror the cells of a job one by one; stop where the next would fail like the last."""
    try:
        import wandb
    except Exception as error:
        # Whatever a broken installation raises, the parent gets one line about it.
        _answer(stream, {"stop": f"wandb cannot be imported ({_reason(error)})"})
        return
    store = Store(Path(job["sweep"]))
    failures = 0
    for cell in job["cells"]:
        try:
            answer = mirror_cell(wandb, store, cell, job)
            failures = 0
        except RecordError as error:
            answer = {"cell": cell, "status": "missing", "reason": _reason(error)}
        except Exception as error:
            # wandb raises all sorts; each becomes this cell's reason, and that is all the sweep hears of it.
            failures += 1
            answer = {"cell": cell, "status": "missing", "reason": _reason(error)}
            if _repeats(error) or failures == _IN_A_ROW:
                _answer(stream, answer)
                _answer(stream, {"stop": answer["reason"]})
                return
            if wandb.run is not None:
                wandb.run.finish(exit_code=1)
        _answer(stream, answer)


def _end_with_parent(lifeline: IO[str], scratch: Path) -> None:
    lifeline.read()
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


def main() -> int:
    """Mirror what `job.json` in the folder named first says. Returns 0; the answers tell what failed."""
    os.nice(10)
    # wandb and its service inherit the standard streams and may print: the answers get a stream of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    lifeline = os.fdopen(os.dup(0), encoding="utf-8")
    scratch = Path(sys.argv[1])
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    threading.Thread(target=_end_with_parent, args=(lifeline, scratch), daemon=True).start()
    work(json.loads((scratch / "job.json").read_text(encoding="utf-8")), answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
