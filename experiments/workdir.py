"""One run's folder: its configuration, metrics, checkpoints and events, and the loop that resumes from them.

On resuming, in this order: the configuration is compared, the newest checkpoint is read, and lines of the metrics
file that lie after it are dropped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

from autoderain_jax.checkpoints import Checkpoints
from autoderain_jax.errors import InputError, shown
from autoderain_jax.files import read_bytes, read_json
from autoderain_jax.search_space import Choices, Rows
from experiments import command

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LINES = 100
"""Records that a run writes to its metrics file, unless it has fewer steps."""
MOST_METRICS = 2**25
"""Bytes of that file: a record of the largest networks has some hundred thousand."""
SECONDS_PER_MINUTE = 60.0
QUIET_SECONDS = 5.0
"""Least time between progress lines where the output is no terminal."""
_LOCKS: dict[Path, Any] = {}
"""Files of the folders that this process has locked, which stay open."""


class Workdir:
    """The folder of a run.

    Args:
      folder: made if needed; None picks a new one in runs/.
      config: the run's configuration, a dataclass.
      kind: what the run is, ``search`` or ``retrain``.
      inputs: what else makes it this run, as JSON values.

    Raises:
      InputError: the folder belongs to a run of another kind or configuration, or cannot be written.
    """

    def __init__(self, folder: Path | None, config: Any, kind: str, **inputs: Any):
        self.folder = folder or Path("runs") / time.strftime(f"{kind}-%Y%m%d-%H%M%S")
        self.metrics_file = self.folder / "metrics.jsonl"
        self.console = command.console()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock()
            self._adopt({"kind": kind, **_plain(config), **inputs})
        except OSError as error:
            raise InputError(f"cannot use workdir {self.folder}: {error.strerror}") from None
        self.console.print(f"workdir: {self.folder}")

    def _lock(self) -> None:
        """Keeps the folder to this process, until it ends however it does."""
        path = self.folder.resolve() / "lock"
        if path in _LOCKS or fcntl is None:
            return
        file = path.open("w")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise InputError(f"workdir {self.folder} is in use by another process") from None
            # A file system without locks.
            return
        _LOCKS[path] = file

    def _adopt(self, config: dict[str, Any]) -> None:
        """Writes the configuration, or compares it with the one already there."""
        path = self.folder / "config.json"
        if path.exists():
            stored = read_json(path, "configuration")
            if not isinstance(stored, dict):
                raise InputError(f"{path} is damaged: it is not a JSON object")
            names = stored.keys() | config.keys()
            different = sorted(name for name in names if stored.get(name) != config.get(name))
            if different:
                name = different[0]
                known, before, now = name if name in config else shown(name), stored.get(name), config.get(name)
                raise InputError(
                    f"workdir {self.folder} holds a run with {known} = {shown(before)}, not {shown(now)}; "
                    "give another --workdir, or the same options to resume"
                )
            return
        replace_file(path, json.dumps(config, indent=2) + "\n")

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
        if not path.exists():
            replace_file(path, json.dumps(jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), make())) + "\n")
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
        batches_from: Callable[[int], None],
        details: Callable[[Any], dict[str, Any]] = lambda state: {},
        checkpoint_minutes: float = 5.0,
        finished: Callable[[list[dict[str, Any]]], bool] = lambda records: False,
    ) -> Any:
        """Trains from the newest checkpoint, or from ``state``, to ``steps``.

        Args:
          state: where a new run starts; a pytree of arrays.
          steps: how many steps the whole run has.
          advance: ``(state, step) -> (state, metrics)``, one step. Metrics are scalars; one that is a Python float
            rather than on the device was dear to compute, and is recorded in any case.
          batches_from: called once with the first step, to open the data there.
          details: what a record of the metrics file holds besides; floats among it become events too.
          checkpoint_minutes: time between checkpoints.
          finished: told all records after each, whether to stop before ``steps``.

        Returns:
          The state after the last step.

        Raises:
          InputError: a loss was not finite.
          KeyboardInterrupt: SIGINT or SIGTERM came; the state was saved.
        """
        with Checkpoints(self.folder / "checkpoints") as checkpoints, contextlib.ExitStack() as stack:
            start, state = checkpoints.restore(state, self.console.print) or (0, state)
            if start:
                self.console.print(f"resuming at step {start} of {steps}")
            self._drop_after(start)
            if start >= steps or (start and finished(self.records())):
                return state
            events = stack.enter_context(self._events(start))
            batches_from(start)
            every = max(1, steps // LINES)
            saved = time.monotonic()
            with _interrupts() as interrupts, Meter(self.console, start, steps) as meter:
                for step in range(start, steps):
                    state, metrics = advance(state, step)
                    done = step + 1
                    dear = any(isinstance(value, float) for value in metrics.values())
                    record = done % every == 0 or done == steps or dear
                    save = time.monotonic() - saved > SECONDS_PER_MINUTE * checkpoint_minutes or interrupts
                    last = done == steps
                    if record or save:
                        scalars = {name: float(value) for name, value in metrics.items()}
                        _require_finite(scalars, done, self.folder)
                    if record:
                        self._record(events, done, scalars, details(state))
                        meter.show(scalars)
                        last = last or finished(self.records())
                    save = save or last
                    meter.step()
                    if save:
                        checkpoints.save(done, state)
                        saved = time.monotonic()
                    if last:
                        break
                    if interrupts:
                        self.console.print(f"stopped at step {done}; run the same command again to go on")
                        raise KeyboardInterrupt
        return state

    def _record(self, events: SummaryWriter, step: int, scalars: dict[str, float], details: dict[str, Any]) -> None:
        with self.metrics_file.open("a") as file:
            file.write(json.dumps({"step": step, **scalars, **details}) + "\n")
        for name, value in (scalars | details).items():
            if isinstance(value, float):
                events.add_scalar(name, value, step)

    @contextlib.contextmanager
    def _events(self, start: int) -> Iterator[SummaryWriter]:
        writer = SummaryWriter(str(self.folder), purge_step=start + 1)
        try:
            yield writer
        finally:
            writer.close()


class Meter:
    """Progress: a bar with time left on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, start: int, steps: int):
        self._console, self._start, self._steps, self._step = console, start, steps, start
        self._began = self._printed = time.monotonic()
        self._bar = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, completed=start)

    def __enter__(self) -> Meter:
        self._bar.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bar.stop()

    def step(self) -> None:
        """Counts one step."""
        self._step += 1
        self._bar.advance(self._task)

    def show(self, scalars: dict[str, float]) -> None:
        """Shows the latest figures; called before the step they belong to is counted."""
        text = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in scalars.items())
        self._bar.update(self._task, description=text)
        now, done = time.monotonic(), self._step + 1
        if self._console.is_terminal or (now - self._printed < QUIET_SECONDS and done < self._steps):
            return
        self._printed = now
        pace = (now - self._began) / (done - self._start)
        left = datetime.timedelta(seconds=round(pace * (self._steps - done)))
        self._console.print(f"step {done}/{self._steps}  {text}  {pace:.2f} s/step  left {left}")


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


def _require_finite(scalars: dict[str, float], step: int, folder: Path) -> None:
    for name, value in scalars.items():
        # Infinity is the PSNR of a perfect image.
        if math.isnan(value) or (math.isinf(value) and not name.endswith("psnr")):
            raise InputError(
                f"{name} is {value} at step {step}: lower --learning-rate; the last checkpoint in {folder} is kept"
            )


def replace_file(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def _plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON values, without what may differ between the parts of one run."""
    free = ("workdir", "checkpoint_minutes", "genotype", "stream", "data_root", "imports", "seeds", "cost_weights")
    values = {name: value for name, value in dataclasses.asdict(config).items() if name not in free}
    return json.loads(json.dumps(values, default=str))
