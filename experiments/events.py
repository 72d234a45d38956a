"""Scalars for TensorBoard, written in the thread that has them: what fails is told there, in a sentence."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar


class Events:
    """A file of events in a run's folder. Use it as a context manager.

    Args:
      folder: of the run.
      start: step after which it goes on; what earlier files hold beyond it counts no more.
    """

    def __init__(self, folder: Path, start: int = 0):
        self._writer = EventsWriter(str(folder / "events"))
        self._write(step=start + 1, session_log=SessionLog(status=SessionLog.START))

    def __enter__(self) -> Events:
        return self

    def __exit__(self, kind, *exception) -> None:
        # What went wrong before is what is told.
        with contextlib.suppress(OSError if kind else ()):
            self._writer.close()

    def add(self, step: int, scalars: dict[str, float]) -> None:
        """Writes figures of a step."""
        for name, value in scalars.items():
            self._write(step=step, summary=scalar(name, value))
        self._writer.flush()

    def _write(self, **content) -> None:
        self._writer.write_event(Event(wall_time=time.time(), **content))
