"""What the processes of a run meet by, in a process of its own beside the first of them.

JAX would serve it from within the first one, and abort all others, without a sentence, the moment that is gone. So they
live to notice. ``python -m experiments.coordinator PORT COUNT SECONDS`` is what ``Coordinator`` starts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
import time

from jax._src.lib import _jax  # the service has no public name

from autoderain_jax.errors import InputError, in_short

READY = "ready"
END = "end"
LEFT = "left"
LEFT_SECONDS = 6.0
"""In which the others hear that the first process has left."""
POLL_SECONDS = 2.0


class Coordinator:
    """The service as JAX knows it in the first process: something to shut down.

    Args:
      port: that it is served on; for a while it may still be that of a run whose first process was killed.
      count: of the processes.
      silence: seconds after which they take one that says nothing for lost.

    Raises:
      InputError: it cannot be served.
    """

    def __init__(self, port: int, count: int, silence: float):
        give_up = time.monotonic() + 2 * silence
        while _in_use(port) and time.monotonic() < give_up:
            time.sleep(POLL_SECONDS)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "experiments.coordinator", str(port), str(count), str(int(silence))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Signals of the terminal are not for it.
            start_new_session=True,
        )
        said = self._process.stdout.readline().strip()
        if said != READY:
            raise InputError(f"--processes.coordinator: port {port} cannot be served: {said or 'it may be in use'}")

    def shutdown(self) -> None:
        """Ends it."""
        with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
            self._process.communicate(END, timeout=POLL_SECONDS)

    def leave(self) -> None:
        """Lets it end soon after this process: one that still lives when it is gone is aborted by JAX."""
        with contextlib.suppress(OSError, ValueError):
            # Its end is that of this process.
            self._process.stdin.write(LEFT)
            self._process.stdin.flush()


def _in_use(port: int) -> bool:
    try:
        with socket.create_server(("", port)):
            return False
    except OSError as error:
        return error.errno == errno.EADDRINUSE


def main() -> None:
    """Serves until standard input says that it may end, or for a while after it has ended without a word."""
    port, count, silence = (int(word) for word in sys.argv[1:])
    try:
        # Held as long as this process lives.
        service = _jax.get_distributed_runtime_service(
            f"[::]:{port}", count, heartbeat_timeout=3 * silence, shutdown_timeout=silence
        )
    except Exception as error:
        print(in_short(error), flush=True)
        sys.exit(1)
    print(READY, flush=True)
    said = sys.stdin.read()
    if said != END:
        # Of a first process that was killed, the others notice the silence.
        time.sleep(LEFT_SECONDS if said == LEFT else 1.5 * silence)
    del service
    os._exit(0)


if __name__ == "__main__":
    main()
