"""Notebooks run from beginning to end, at the smallest setting, and are committed without what they printed."""

from pathlib import Path

import pytest

nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
GIVEN = {"search": "STEPS = 2\n", "derain": ""}
MADE = {"search": "runs/notebook/retrain/model/model.json", "derain": "restored/compared/coffee.png.png"}


def tagged(cell, tag):
    return tag in cell.metadata.get("tags", ())


def test_all_notebooks_are_tested():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == sorted(GIVEN)


# What the kernel's client leaves to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("name", GIVEN)
def test_notebooks_run(tmp_path, name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    (parameters,) = (cell for cell in code if tagged(cell, "parameters"))
    (install,) = (cell for cell in code if tagged(cell, "install"))
    parameters.source += "\n" + GIVEN[name]
    notebook.cells.remove(install)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert (tmp_path / MADE[name]).exists()
    shown = [output for cell in code for output in cell.get("outputs", ()) if "image/png" in output.get("data", {})]
    assert shown, "pictures are shown"
