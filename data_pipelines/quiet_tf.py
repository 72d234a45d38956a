"""TensorFlow and TensorFlow Datasets, imported without their log, and with no accelerator to take from JAX.

Everything that needs either takes it from here, and nothing else imports this.
"""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["tf", "tfds"]


@contextlib.contextmanager
def _quiet():
    """Silences what native code writes to standard error; Python's exceptions still arrive."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# Importing TensorFlow, and asking it for accelerators, logs several lines of no concern to anyone.
with _quiet():
    import tensorflow as tf
    import tensorflow_datasets as tfds

    tf.config.set_visible_devices([], "GPU")
    tf.config.set_visible_devices([], "TPU")
