"""One run's folder: its configuration, metrics, checkpoints and events, and the loop that resumes from them.

On resuming, in this order: the configuration is compared, the newest checkpoint is read, and lines of the metrics
file that lie after it are dropped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from autoderain_jax.checkpoints import Checkpoints
from autoderain_jax.errors import InputError, shown
from autoderain_jax.files import flush, read_bytes, read_json, replace_file
from autoderain_jax.search_space import Choices, Rows
from experiments import command, processes
from experiments.events import Events
from experiments.progress import Measured, Meter, is_finite

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LINES = 100
"""Records that a run writes to its metrics file, unless it has fewer steps."""
MOST_METRICS = 2**25
"""Bytes of that file: a record of the largest networks has some hundred thousand."""
SECONDS_PER_MINUTE = 60.0
AGREE_STEPS = 10
"""Several processes ask one another after so many steps whether to save or to stop."""
LATER = {"ema": 0.0, "swap_rain": 0.0, "image_pixels": None}
"""Options that runs may be older than, with the values that leave everything as it was before."""
_LOCKS: dict[Path, int] = {}
"""Descriptors of files by which this process has locked folders; they stay open."""


def _new_folder(parent: Path, kind: str) -> Path:
    """Makes a folder that is named after a kind of run and the time; several may begin in a second."""
    name = time.strftime(f"{kind}-%Y%m%d-%H%M%S")
    folder, others = parent / name, itertools.count(2)
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            folder = parent / f"{name}-{next(others)}"


def claim(folder: Path) -> None:
    """Makes a folder, and keeps it to this process until that ends, however it does.

    Raises:
      InputError: another process has it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder.resolve() / "lock"
        if path in _LOCKS or fcntl is None:
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(f"cannot use workdir {folder}: {error.strerror}") from None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise InputError(f"workdir {folder} is in use by another process") from None
        # A file system without locks.
        return
    _LOCKS[path] = descriptor


class Workdir:
    """The folder of a run, which the first of its processes writes, and all read.

    Args:
      folder: made if needed; None picks a new one in runs/.
      config: the run's configuration, a dataclass.
      kind: what the run is, ``search`` or ``retrain``.
      inputs: what else makes it this run, as JSON values.

    Attributes:
      folder, metrics_file: paths.
      console: where the run prints, which is nowhere in processes other than the first.
      writes: whether this process is the one that writes.

    Raises:
      InputError: the folder belongs to a run of another kind or configuration, or cannot be written.
    """

    def __init__(self, folder: Path | None, config: Any, kind: str, **inputs: Any):
        if folder is None and jax.process_count() > 1:
            raise InputError("--workdir is required, the same for all processes")
        self.console = command.console()
        self.writes = processes.is_first()
        identity = {"kind": kind, **_plain(config), **inputs}
        self.folder = folder or Path("runs")
        try:
            if folder is None:
                self.folder = _new_folder(self.folder, kind)
            if self.writes:
                claim(self.folder)
                self._adopt(identity)
            processes.meet("workdir")
            if not self.writes:
                self._adopt(identity)
        except OSError as error:
            raise InputError(f"cannot use workdir {self.folder}: {error.strerror}") from None
        self.metrics_file = self.folder / "metrics.jsonl"
        self._again = "" if folder else f" with --workdir {self.folder}"
        self.console.print(f"workdir: {self.folder}")

    def _adopt(self, config: dict[str, Any]) -> None:
        """Writes the configuration, or compares it with the one already there."""
        path = self.folder / "config.json"
        if path.exists():
            stored = read_json(path, "configuration")
            if not isinstance(stored, dict):
                raise InputError(f"{path} is damaged: it is not a JSON object")
            stored = {**{name: value for name, value in LATER.items() if name in config}, **stored}
            names = stored.keys() | config.keys()
            different = sorted(name for name in names if stored.get(name) != config.get(name))
            if "kind" in different:
                raise InputError(f"workdir {self.folder} holds a run of another kind, {shown(stored.get('kind'))}")
            if different:
                name = different[0]
                known, before, now = name if name in config else shown(name), stored.get(name), config.get(name)
                raise InputError(
                    f"workdir {self.folder} holds a run with {known} = {shown(before)}, not {shown(now)}; "
                    "give another --workdir, or the same options to resume"
                )
        elif self.writes:
            replace_file(path, json.dumps(config, indent=2) + "\n")
        else:
            raise InputError(f"workdir {self.folder} is not that of process 0: give all the same")

    def records(self) -> list[dict[str, Any]]:
        """The metrics written so far."""
        if not self.metrics_file.exists():
            return []
        records = []
        for line in read_bytes(self.metrics_file, "metrics", MOST_METRICS).splitlines():
            # A line that a kill cut short is no record.
            with contextlib.suppress(ValueError, RecursionError):
                record = json.loads(line)
                if isinstance(record, dict) and type(record.get("step")) is int:
                    records.append(record)
        return records

    def keep(self, name: str, make: Callable[[], Any], choices: Choices) -> Rows:
        """A value that a resumed run must have again: made once, and kept as JSON in a file of the folder.

        Args:
          name: of the file.
          make: what makes the value: a row for every choice.
          choices: these.

        Raises:
          InputError: the file holds something else.
        """
        path = self.folder / name
        if self.writes and not path.exists():
            replace_file(path, json.dumps(jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), make())) + "\n")
        processes.meet(name)
        value = read_json(path, name)
        wanted = {block: {row: (len(options),) for row, options in rows.items()} for block, rows in choices.items()}
        try:
            found = {block: {row: np.array(value[block][row], float) for row in wanted[block]} for block in wanted}
        except (KeyError, TypeError, ValueError, OverflowError):
            found = {}
        sound = jax.tree.map(np.shape, found) == wanted
        if not sound or not all((abs(row) < np.finfo(np.float32).max).all() for row in jax.tree.leaves(found)):
            raise InputError(f"{path} is damaged: it has no row of numbers for every choice")
        return jax.tree.map(np.float32, found)

    def _drop_after(self, step: int) -> None:
        """Forgets metrics of steps after ``step``, which a resumed run repeats."""
        replace_file(self.metrics_file, "".join(json.dumps(r) + "\n" for r in self.records() if r["step"] <= step))

    def train(
        self,
        state: Any,
        steps: int,
        advance: Callable[[Any, int], tuple[Any, dict[str, Any]]],
        batches_from: Callable[[int], str | None],
        details: Callable[[Any], dict[str, Any]] = lambda state: {},
        checkpoint_minutes: float = 5.0,
        finished: Callable[[list[dict[str, Any]]], bool] | None = None,
        batch_of: Callable[[int], str] = lambda step: "",
    ) -> Any:
        """Trains from the newest checkpoint, or from ``state``, to ``steps``.

        Args:
          state: where a new run starts; a pytree of arrays.
          steps: how many steps the whole run has.
          advance: ``(state, step) -> (state, metrics)``, one step. Metrics are scalars; one that is a Python float
            rather than on the device was dear to compute, and is recorded in any case.
          batches_from: called once with the first step, to open the data there; returns what to say of the memory that
            steps will take, which is said again if it is not there.
          details: what a record of the metrics file holds besides; floats among it become events too.
          checkpoint_minutes: time between checkpoints.
          finished: told all records after each, whether to stop before ``steps``.
          batch_of: what a step learned from, in words, told when its loss is not finite.

        Returns:
          The state after the last step.

        Raises:
          InputError: a loss or what was learned is not finite, and the last checkpoint is kept; or ``advance`` raises
            it before it has computed anything: what was learned until then is saved, unless other processes would have
            to save it too.
          KeyboardInterrupt: SIGINT or SIGTERM came; the state was saved.
        """
        with (
            Checkpoints(self.folder / "checkpoints") as checkpoints,
            _interrupts() as interrupts,
            contextlib.ExitStack() as stack,
        ):
            start, state = checkpoints.restore(state, self.console.print) or (0, state)
            if start:
                self.console.print(f"resuming at step {start} of {steps}")
            if self.writes:
                self._drop_after(start)
            if start >= steps or self._finished(finished, start, state):
                return state
            events = stack.enter_context(Events(self.folder, start)) if self.writes else None
            words = batches_from(start)
            if words:
                self.console.print(words)
                stack.enter_context(_noting(words))
            every = max(1, steps // LINES)
            saved = time.monotonic()
            measured = Measured(self.folder, batch_of)
            with Meter(self.console, start, steps) as meter:
                for step in range(start, steps):
                    try:
                        state, metrics = advance(state, step)
                    except InputError as error:
                        measured.see()
                        _save_alone(checkpoints, step, state, error)
                        raise
                    measured.see()
                    done = step + 1
                    measured.put(done, metrics)
                    last = done == steps
                    dear = any(isinstance(value, float) for value in metrics.values())
                    record = done % every == 0 or last or dear
                    stop, save = bool(interrupts), time.monotonic() - saved > SECONDS_PER_MINUTE * checkpoint_minutes
                    if record or done % AGREE_STEPS == 0 or jax.process_count() == 1:
                        stop, save = processes.agree(stop, save, after=state)
                    else:
                        stop = save = False
                    if record:
                        scalars = measured.see()
                        if events:
                            self._record(events, done, scalars, details(state))
                        meter.show(scalars)
                        if not last and self._finished(finished, done, state):
                            last = True
                            self.console.print(f"finished early, at step {done} of {steps}")
                    meter.step()
                    if save or stop or last:
                        measured.see()
                        measured.require_finite(done, state)
                        if self.writes and self.metrics_file.exists():
                            flush(self.metrics_file)
                        checkpoints.save(done, state)
                        saved = time.monotonic()
                    if last or stop:
                        checkpoints.wait()
                    if stop:
                        self.console.print(f"stopped at step {done}; run the same command again{self._again} to go on")
                        processes.part()
                        raise KeyboardInterrupt
                    if last:
                        break
        return state

    def _finished(self, finished: Callable[[list[dict[str, Any]]], bool] | None, step: int, state: Any) -> bool:
        """Whether the run may stop before its last step, as the process that has the records says."""
        if finished is None:
            return False
        return processes.agree(bool(self.writes and step and finished(self.records())), after=state)[0]

    def _record(self, events: Events, step: int, scalars: dict[str, float], details: dict[str, Any]) -> None:
        try:
            with self.metrics_file.open("a") as file:
                file.write(json.dumps({"step": step, **scalars, **details}) + "\n")
            events.add(step, {name: value for name, value in (scalars | details).items() if isinstance(value, float)})
        except OSError as error:
            raise InputError(f"cannot write to workdir {self.folder}: {error.strerror}") from None


def _save_alone(checkpoints: Checkpoints, step: int, state: Any, reason: InputError) -> None:
    """Saves what was learned before data failed, if the state is whole and no other process would have to save too."""
    if jax.process_count() > 1 or any(leaf.is_deleted() for leaf in jax.tree.leaves(state)) or not is_finite(state):
        return
    try:
        checkpoints.save(step, state)
        checkpoints.wait()
    except InputError as error:
        raise InputError(f"{reason}; and {error}") from None


@contextlib.contextmanager
def _noting(words: str) -> Iterator[None]:
    """Adds to errors what was said of memory, for ``command`` to tell where there was not enough."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError, ValueError) as error:
        error.add_note(words)
        raise


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying by them; a second SIGINT does interrupt at once."""
    received: list[int] = []

    def note(number, frame):
        del frame
        if number in received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON values, without what may differ between the parts of one run."""
    free = (
        "workdir",
        "checkpoint_minutes",
        "genotype",
        "initial_model",
        "stream",
        "data_root",
        "imports",
        "processes",
        "remat",
        "accumulate",
        "seeds",
        "cost_weights",
    )
    values = {name: value for name, value in dataclasses.asdict(config).items() if name not in free}
    return json.loads(json.dumps(values, default=str))
