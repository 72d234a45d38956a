"""The doctor tells what is there and what is wrong, whatever is broken."""

import importlib.metadata
import subprocess
import sys
import types

import pytest

from experiments import doctor

GPU = doctor.Gpu("NVIDIA H100", "81559 MiB", "570.86.15", "9.0")


@pytest.fixture
def versions(monkeypatch):
    """Versions of packages that are not there, or other ones."""
    real, told = doctor.version, {}
    monkeypatch.setattr(doctor, "version", lambda package: told.get(package, real(package)))
    return told


def problems(check):
    found = doctor.Findings()
    check(found)
    return found.problems


def test_nothing_is_wrong_here(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["doctor"])
    monkeypatch.setattr(doctor, "gpus", list)
    monkeypatch.setattr(doctor, "PLUGINS", {})
    assert doctor.main() == 0, capfd.readouterr().out
    out = capfd.readouterr().out
    assert f"jax                {importlib.metadata.version('jax')}\n" in out
    for name in (
        "devices",
        "memory",
        "machine's memory",
        "data pipeline",
        "programs kept in",
        "disk",
        "packaged model",
    ):
        assert f"\n{name}" in out
    assert out.endswith("\nnothing is wrong\n")


def test_what_is_lacking_or_too_old_is_told(versions):
    versions |= {"optax": "0.1.0", "safetensors": None, "tensorflow": None, "tensorflow-datasets": None}
    told = problems(doctor.check_packages)
    assert len(told) == 2
    assert any(text.startswith("optax>=0.2") and "not 0.1.0: pip install -e ." in text for text in told)
    assert any(text.startswith("safetensors>=") and "not None" in text for text in told)


@pytest.mark.parametrize(("driver", "other"), [("570.1", "jax-cuda13-plugin"), ("580.65", "jax-cuda12-plugin")])
def test_packages_that_do_not_go_together_are_told(monkeypatch, versions, driver, other):
    monkeypatch.setattr(doctor, "gpus", lambda: [GPU._replace(driver=driver)])
    jaxlib = doctor.version("jaxlib") + ".post1"
    versions |= {"jax-cuda12-plugin": "0.4.1", "jax-cuda13-plugin": jaxlib, "tensorflow-cpu": "2.21.0"}
    told = problems(doctor.check_plugins)
    assert len(told) == 3
    assert "jax-cuda12-plugin 0.4.1 does not go with jaxlib" in told[0]
    assert "CUDA 12 and 13" in told[1]
    assert f"pip uninstall {other}" in told[1]
    assert "tensorflow and tensorflow-cpu" in told[2]


@pytest.mark.parametrize(
    ("environment", "plugin", "gpu", "sentence"),
    [
        ({"JAX_PLATFORMS": "cpu"}, "0.10.0", GPU, "JAX_PLATFORMS is 'cpu': unset it"),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, "0.10.0", GPU, "CUDA_VISIBLE_DEVICES hides it"),
        ({}, None, GPU, "pip install -e '.[cuda12]'"),
        ({}, None, GPU._replace(driver="580.65"), "pip install -e '.[cuda13]'"),
        ({}, None, GPU._replace(driver="580.65", capability="7.0"), "pip install -e '.[cuda12]'"),
        ({"LD_LIBRARY_PATH": "/usr/local/cuda/lib64"}, "0.10.0", GPU, "LD_LIBRARY_PATH puts another CUDA"),
        ({}, "0.10.0", GPU, "the warning that JAX prints"),
    ],
)
def test_a_gpu_that_is_not_used_is_told_with_what_to_do(monkeypatch, versions, environment, plugin, gpu, sentence):
    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(doctor, "gpus", lambda: [gpu])
    versions |= {"jax-cuda12-plugin": plugin, "jax-cuda13-plugin": None}
    (told,) = problems(doctor.check_devices)
    assert told.startswith("there is a GPU, but JAX uses the CPU: ")
    assert sentence in told


@pytest.mark.parametrize(
    ("stats", "line"),
    [
        ({"bytes_limit": 60_000_000_000, "bytes_in_use": 18_000_000_000}, "60.0 GB, 42.0 GB free"),
        ({"bytes_limit": 60_000_000_000}, "60.0 GB"),
        (None, "unknown"),
    ],
)
def test_memory_of_device_and_machine_is_told(monkeypatch, capfd, stats, line):
    device = types.SimpleNamespace(platform="gpu", device_kind="NVIDIA H100", memory_stats=lambda: stats)
    monkeypatch.setattr(doctor, "gpus", list)
    monkeypatch.setattr("jax.devices", lambda: [device])
    monkeypatch.setattr("jax.local_devices", lambda: [device])
    monkeypatch.setattr("autoderain_jax.memory.of_machine", lambda: 128_000_000_000)
    assert not problems(doctor.check_devices)
    out = capfd.readouterr().out
    assert f"\nmemory             {line}\n" in out
    assert "\nmachine's memory   128.0 GB\n" in out


@pytest.mark.parametrize("installed", [True, False])
def test_folders_of_downloads_are_told_where_their_packages_are(monkeypatch, capfd, tmp_path, installed):
    (tmp_path / "downloading.py").write_text("FOLDER = '/kept/here'")
    monkeypatch.syspath_prepend(tmp_path)
    name = "downloading" if installed else "not_downloading"
    monkeypatch.setattr(doctor, "DOWNLOADS", {"models in": (name, "FOLDER")})
    assert not problems(doctor.check_folders)
    assert ("\nmodels in          /kept/here\n" in capfd.readouterr().out) is installed


def test_an_import_that_fails_is_a_problem(tmp_path):
    (tmp_path / "jax.py").write_text("raise RuntimeError('jaxlib is version 1, but jax\\nneeds 2')")
    line = [
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, sys.argv.pop()); from experiments import doctor; sys.exit(doctor.main())",
    ]
    done = subprocess.run([*line, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "problem: devices: RuntimeError: jaxlib is version 1, but jax needs 2\n" in done.stdout
    assert done.stdout.endswith("\n1 to mend\n")
    assert not done.stderr


def test_without_a_device_nothing_else_is_tried(monkeypatch, capfd):
    def devices():
        raise AssertionError

    monkeypatch.setattr("jax.devices", devices)
    monkeypatch.setattr(sys, "argv", ["doctor"])
    assert doctor.main() == 1
    out = capfd.readouterr().out
    assert "JAX finds no such device: unset it\n1 to mend\n" in out
    assert "packaged model" not in out
