"""``python -m experiments.X``: thin commands over functions with a typed configuration."""
