"""Writes the API reference from docstrings, HTML: ``python docs/api.py FOLDER``. Needs ``pip install -e '.[docs]'``."""

import pkgutil
import sys
from pathlib import Path

import pdoc

import autoderain_jax
import data_pipelines

if len(sys.argv) != 2:
    sys.exit(f"usage: python docs/api.py FOLDER\n\n{__doc__}")
modules = [
    name
    for package in (autoderain_jax, data_pipelines)
    for name in (package.__name__, *(m.name for m in pkgutil.iter_modules(package.__path__, package.__name__ + ".")))
    # Extras, and what serves other modules alone.
    if name not in ("autoderain_jax.hub", "autoderain_jax.onnx_graph", "data_pipelines.datasets")
]
pdoc.render.configure(docformat="google", math=True)
pdoc.pdoc(*modules, output_directory=Path(sys.argv[1]))
print(f"{len(modules)} modules: {Path(sys.argv[1]) / 'index.html'}")
