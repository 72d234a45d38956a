"""What the processes of a run meet by: ``python -m experiments.coordinator PORT COUNT SECONDS``.

``processes.join`` starts it beside the first process. JAX would serve this from within that one, and abort all others
the moment it is gone; so they live to notice, and end with a sentence.
"""

from __future__ import annotations

import os
import sys
import time

from jax._src.lib import _jax  # the service has no public name

READY = "ready"
END = "end"


def main() -> None:
    """Serves until standard input says that it may end, or, some seconds after that has ended without a word."""
    port, count, seconds = (int(word) for word in sys.argv[1:])
    try:
        service = _jax.get_distributed_runtime_service(
            f"[::]:{port}", count, heartbeat_timeout=3 * seconds, shutdown_timeout=seconds
        )
    except Exception as error:
        print(" ".join(str(error).split())[:200], flush=True)
        sys.exit(1)
    print(READY, flush=True)
    if END not in sys.stdin.read():
        # The first process was killed, of which the others hear by its silence.
        time.sleep(1.5 * seconds)
    del service
    os._exit(0)


if __name__ == "__main__":
    main()
