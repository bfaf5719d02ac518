"""Mirrors of the records. A mirror is never in a record's way (docs/tracking.md)."""

from bench.tracking.config import TrackerConfig
from bench.tracking.mirror import mirror_sweep
from bench.tracking.state import CellMirror, MirrorState, StateError, read_state

__all__ = ["CellMirror", "MirrorState", "StateError", "TrackerConfig", "mirror_sweep", "read_state"]
