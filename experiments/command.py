"""What all commands share: a command line made from a dataclass, and errors in one sentence."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import math
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import tyro
from rich.console import Console

from autoderain_jax.errors import InputError, shown
from experiments import processes

Config = TypeVar("Config")
KEPT_SECONDS = 0.2
"""Programs that take so long to compile are kept. JAX keeps those of a second; the packaged model's take a bit less."""
PREDICTED = "predicted peak memory"
"""How a sentence begins that is told again where there is not so much."""


def parse(config: type[Config], args: Sequence[str] | None = None, default: Config | None = None, **options) -> Config:
    """Reads the command line into a dataclass; prints help or a usage error and exits where it has to."""
    if default is not None:
        options["default"] = default
    return tyro.cli(config, args=args, config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff), **options)


def peek(option: str, args: Sequence[str]) -> str | None:
    """The value of one option, read before the others: presets decide what the others default to."""
    given = _values(option, args)
    return given[0] if given else None


def _values(option: str, args: Sequence[str]) -> list[str]:
    """What follows an option, where it is given last, in any spelling that ``parse`` knows."""
    found: list[str] = []
    for i, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name.startswith("--") and name.replace("_", "-") == option:
            rest = itertools.takewhile(lambda word: not word.startswith("-"), args[i + 1 :])
            found = [value] if equals else list(rest)
    return found


def import_modules(args: Sequence[str]) -> None:
    """Imports the modules that ``--imports`` names: they may add candidates, which everything after must know.

    Raises:
      InputError: there is no such module.
    """
    for name in _values("--imports", args):
        if not all(part.isidentifier() for part in name.split(".")):
            raise InputError(f"--imports: {shown(name)} is no name of a module")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{name}.".startswith(f"{error.name}."):
                raise InputError(f"--imports: there is no module {name!r} here or on the Python path") from None
            raise InputError(f"--imports: {name} needs a module that is not there: {error.name or error}") from None


def run(main: Callable[[], int | None], lower: str = "") -> None:
    """Runs a command and exits: 0 on success, 2 with one sentence on bad input, 130 when interrupted.

    Args:
      main: the command; returns the exit code, or None for 0.
      lower: what to do where the device has not enough memory.
    """
    for stream in (sys.stdout, sys.stderr):
        # File names need not be of any encoding.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _told(main, lower)
    except BaseException:
        if processes.alone():
            traceback.print_exc()
            processes.leave(1)
        raise
    processes.leave(code)
    sys.exit(code)


def _told(main: Callable[[], int | None], lower: str) -> int:
    """The exit code of a command, after a sentence where it failed by what a user can mend."""
    try:
        import_modules(sys.argv[1:])
        return main() or 0
    except InputError as error:
        say(f"error: {error}")
        return 2
    except (jax.errors.JaxRuntimeError, MemoryError, ValueError) as error:
        return _device_error(error, lower)
    except (RuntimeError, AssertionError):
        # What JAX raises where it finds none of the devices that it is told to use.
        if not jax.config.jax_platforms or _has_device():
            raise
        say(f"error: JAX_PLATFORMS={jax.config.jax_platforms}, but JAX finds no such device here: unset it")
        return 2
    except OSError as error:
        say(f"error: {error.filename or 'input or output'}: {error.strerror or error}")
        return 2
    except KeyboardInterrupt:
        say("interrupted")
        return 130


def _has_device() -> bool:
    try:
        return bool(jax.devices())
    except (RuntimeError, AssertionError):
        return False


def _device_error(error: Exception, lower: str) -> int:
    """Says in a sentence what can be said so, and returns the exit code; raises everything else."""
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        notes = [note.split(";")[0] for note in getattr(error, "__notes__", ()) if note.startswith(PREDICTED)]
        said = f" ({notes[0]})" if notes else ""
        say(f"error: the device has not enough memory{said}" + (f": {lower}" if lower else ""))
        return 2
    if jax.process_count() > 1 and any(word in str(error) for word in ("Gloo", "gloo", "NCCL", "nccl", "collective")):
        processes.tell_of_another(say)
        return processes.ENDED
    raise error


def keep_programs() -> None:
    """Keeps what is compiled for later runs, in the user's cache or where ``JAX_COMPILATION_CACHE_DIR`` says."""
    if jax.config.jax_compilation_cache_dir is None:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "autoderain-jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        seconds = min(jax.config.jax_persistent_cache_min_compile_time_secs, KEPT_SECONDS)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


def next_step(module: str, *words: str) -> str:
    """What to run after this, as a line to be copied."""
    return "next: " + shlex.join(["python", "-m", f"experiments.{module}", *words])


def say(sentence: str) -> None:
    """Prints to standard error."""
    print(sentence, file=sys.stderr)


def finite(value: Any) -> Any:
    """The same JSON value with null for what JSON does not have: infinity, the PSNR of a perfect image, and NaN."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def console(stderr: bool = False) -> Console:
    """Where commands print: colours and bars on a terminal, plain lines of any length elsewhere; the first process."""
    quiet = not processes.is_first()
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, stderr=stderr, quiet=quiet)
    if not console.is_terminal:
        console.width = 120
    return console
