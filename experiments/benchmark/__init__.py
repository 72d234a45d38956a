"""Measurements of what a user waits for and pays in memory: ``python -m experiments.benchmark NAME``."""
