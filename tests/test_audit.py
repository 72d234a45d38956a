import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from autoderain_jax.metrics import score
from data_pipelines import audit as command
from data_pipelines import find_data
from data_pipelines.audit import AuditConfig, audit
from data_pipelines.findings import check
from data_pipelines.known import DataSet, Input, Place
from data_pipelines.likeness import Scene, likeness, perceptual_hash, same_scenes, thumbnail
from data_pipelines.synthetic import PRESETS, Rain, add_rain, photograph

SCENES = [
    photograph(name)[top : top + 160, left : left + 200]
    for name in ("astronaut", "coffee", "motorcycle", "rocket", "chelsea")
    for top in (0, 130)
    for left in (0, 220)
]


def rained(clean, seed, preset="light"):
    rng = np.random.default_rng(seed)
    return add_rain(clean, PRESETS[preset].sample(rng), rng)


def save(folder, name, rainy, clean):
    for kind, image in (("rainy", rainy), ("clean", clean)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / kind / name)


@pytest.fixture
def data(tmp_path):
    """Twelve training and four test pairs, all of different scenes."""
    for index, clean in enumerate(SCENES[:16]):
        save(tmp_path / "data" / ("train" if index < 12 else "test"), f"{index}.png", rained(clean, index), clean)
    return tmp_path / "data"


def found(data, **options):
    return audit(AuditConfig(str(data), **options))


def test_sound_data_have_no_findings(data):
    reports, findings = found(data)
    assert findings == []
    assert {name: report.pairs for name, report in reports.items()} == {"train": 12, "test": 4}
    expected = [score(rained(SCENES[i], i), SCENES[i])["y-matlab"]["psnr"] for i in range(12, 16)]
    assert reports["test"].input["y-matlab"]["psnr"] == pytest.approx(np.mean(expected))


def exchange(folder, first, second):
    one, other, kept = folder / first, folder / second, folder / "kept"
    one.rename(kept)
    other.rename(one)
    kept.rename(other)


def edit(path, change):
    path.write_bytes(change(path.read_bytes()))


def flip_a_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


FAULTS = {
    "swapped": (lambda d: exchange(d / "train/clean", "3.png", "7.png"), [("mismatched", "3"), ("mismatched", "7")]),
    "renamed": (
        lambda d: (d / "test/rainy/13.png").rename(d / "test/rainy/130.png"),
        [("unpaired", "130.png"), ("unpaired", "13.png")],
    ),
    "truncated": (lambda d: edit(d / "train/rainy/5.png", lambda c: c[: len(c) // 2]), [("unreadable", "5")]),
    "bit-flipped": (lambda d: edit(d / "train/clean/5.png", flip_a_bit), [("unreadable", "5")]),
    "16 bits": (
        lambda d: Image.fromarray(np.zeros((160, 200), np.uint16)).save(d / "train/clean/5.png"),
        [("unsuitable", "5")],
    ),
    "empty": (lambda d: edit(d / "train/clean/5.png", lambda c: b""), [("unreadable", "5")]),
    "unequal": (
        lambda d: Image.fromarray(SCENES[5][1:]).save(d / "train/clean/5.png"),
        [("unequal", "5")],
    ),
    "no rain": (lambda d: Image.fromarray(SCENES[5]).save(d / "train/rainy/5.png"), [("identical", "5")]),
    "strangers": (
        lambda d: Image.fromarray(SCENES[17]).save(d / "train/rainy/5.png"),
        [("mismatched", "5")],
    ),
    "twice": (
        lambda d: save(d / "train", "twice.png", rained(SCENES[2], 99), SCENES[2]),
        [("duplicate", "2")],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found_and_nothing_else(data, fault):
    plant, expected = FAULTS[fault]
    plant(data)
    _, findings = found(data)
    assert [(finding.kind, finding.images[0].rsplit("/")[-1]) for finding in findings] == expected
    for finding in findings:
        assert finding.problem
        assert finding.repair
        assert "\n" not in finding.problem + finding.repair


def test_part_that_cannot_all_be_read_has_no_fingerprint(data, monkeypatch, capsys):
    edit(data / "train/rainy/5.png", lambda content: b"")
    report = found(data)[0]["train"]
    assert (report.pairs, report.read, report.fingerprint, report.clean_fingerprint) == (12, 11, None, None)
    monkeypatch.setattr("sys.argv", ["audit", str(data)])
    command.main()
    shown = capsys.readouterr().out
    assert "train: 12 pairs, 11 of which could be read" in shown
    assert shown.endswith(": 1 finding\n")
    assert shown.count("fingerprint") == 1


def test_swapped_pairs_are_told_their_partners(data):
    exchange(data / "train/clean", "3.png", "7.png")
    assert {(f.images, f.repair) for f in found(data)[1]} == {
        (("3", "7"), "pair it with 7.png"),
        (("7", "3"), "pair it with 3.png"),
    }


def jpeg(image):
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=80)
    return np.array(Image.open(content))


COPIES = {
    "the same": lambda image: image,
    "cropped by a pixel": lambda image: image[:, 1:],
    "JPEG 80": jpeg,
    "cropped, then JPEG 80": lambda image: jpeg(image[1:]),
}


@pytest.mark.parametrize("how", COPIES)
def test_leaks_into_the_test_part_are_found(data, how):
    copy = COPIES[how]
    save(data / "test", "zz.png", copy(rained(SCENES[4], 4)), copy(SCENES[4]))
    _, findings = found(data)
    assert [(f.kind, f.part, set(f.images)) for f in findings] == [("leak", "train", {"train/4", "test/zz"})]


def test_another_data_set_is_searched_too(data, tmp_path):
    save(tmp_path / "other", "a.png", rained(SCENES[18], 1), SCENES[18])
    assert found(data, against=str(tmp_path / "other"))[1] == []
    save(tmp_path / "other", "b.png", rained(SCENES[1], 1), jpeg(SCENES[1]))
    _, findings = found(data, against=str(tmp_path / "other"))
    assert [f.kind for f in findings] == ["leak"]
    assert set(findings[0].images) == {"train/1", f"{tmp_path / 'other'} all/b"}


def test_images_without_detail_are_not_called_strangers(data):
    flat = np.full((160, 200, 3), 90, np.uint8)
    save(data / "train", "flat.png", rained(flat, 3), flat)
    assert found(data)[1] == []


def test_exchanged_folders_are_noticed(data):
    for part in ("train", "test"):
        exchange(data / part, "rainy", "clean")
    # The test part has too few images to tell.
    assert [(f.kind, f.part) for f in found(data)[1]] == [("exchanged", "train")]


def test_variants_of_one_background_are_no_duplicates(tmp_path):
    for index in range(3):
        save(tmp_path, f"{index}.png", SCENES[index], SCENES[index])
        for variant in range(4):
            Image.fromarray(rained(SCENES[index], variant)).save(tmp_path / f"rainy/{index}_{variant}.png")
        (tmp_path / f"rainy/{index}.png").unlink()
    reports, findings = found(tmp_path)
    assert reports["all"].pairs == 12
    assert findings == []


def test_counts_are_compared_with_the_published(data):
    _, findings = found("Rain100L", data_root=data)
    assert [(f.kind, f.part) for f in findings] == [("count", "train"), ("count", "test")]
    assert "train has 12 pairs, and the versions that are known have 200 (as published)" in findings[0].problem


@pytest.mark.parametrize(("psnr_off", "ssim_off", "pairs"), [(0, 0, 12), (0.2, 0, 12), (0, 0.01, 12), (0.2, 0, 13)])
def test_scores_are_compared_with_those_of_the_same_version(data, psnr_off, ssim_off, pairs):
    parts = find_data(str(data))
    measured = check(parts, {})[0]["train"].input["y-matlab"]
    published = Input(pairs, measured["psnr"] + psnr_off, measured["ssim"] - ssim_off, "a table")
    place = Place(("train",), {12: "as published"}, published)
    data_set = DataSet("name", "Title", {"train": place, "test": Place(("test",), {4: "as published"})})
    reports, findings = check(parts, {}, data_set)
    assert reports["train"].version == "as published"
    off = (psnr_off or ssim_off) and pairs == 12
    assert [(f.kind, f.part) for f in findings] == ([("score", "train")] if off else [])


def test_parts_inside_others_are_no_leaks(data):
    save(data / "test", "zz.png", rained(SCENES[4], 4), SCENES[4])
    places = {"train": Place((), {12: ""}), "test": Place((), {5: ""}, inside="train")}
    assert check(find_data(str(data)), {}, DataSet("name", "Title", places))[1] == []
    assert [f.kind for f in check(find_data(str(data)), {})[1]] == ["leak"]


def test_broken_or_missing_part_of_a_published_set_is_a_finding(data):
    shutil.rmtree(data / "test/clean")
    _, findings = found("rain100l", data_root=data)
    assert [(f.kind, f.part) for f in findings] == [("count", "train"), ("count", "test"), ("layout", "test")]
    shutil.rmtree(data / "test")
    _, findings = found("rain100l", data_root=data)
    assert [(f.kind, f.part) for f in findings] == [("missing", "test"), ("count", "train")]
    assert "part test of Rain100L is not there (looked for rain_data_test_Light, " in findings[0].problem


def test_images_without_detail_are_found_in_both_parts(data):
    flat = np.full((160, 200, 3), 90, np.uint8)
    for part in ("train", "test"):
        save(data / part, f"flat-{part}.png", rained(flat, 3), flat)
    assert [(f.kind, set(f.images)) for f in found(data)[1]] == [("leak", {"train/flat-train", "test/flat-test"})]


def test_findings_of_one_kind_are_not_all_printed(data, monkeypatch, capsys):
    clean = sorted((data / "train/clean").iterdir())
    contents = [path.read_bytes() for path in clean]
    for path, content in zip(clean, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)
    monkeypatch.setattr("sys.argv", ["audit", str(data)])
    assert command.main() == 1
    shown = capsys.readouterr().out
    assert shown.count("mismatched: ") == 11
    assert "mismatched: and 2 more; --json lists all" in shown


def test_fingerprint_is_of_pixels_alone(data):
    before = {name: report.fingerprint for name, report in found(data)[0].items()}
    for kind in ("rainy", "clean"):
        folder = data / "train" / kind
        Image.open(folder / "3.png").save(folder / "z3.tif")
        (folder / "3.png").unlink()
    after = {name: report.fingerprint for name, report in found(data)[0].items()}
    assert after == before
    Image.fromarray(rained(SCENES[3], 77)).save(data / "train/rainy/z3.tif")
    changed = found(data)[0]
    assert changed["train"].fingerprint != before["train"]
    assert changed["test"].fingerprint == before["test"]


@pytest.mark.parametrize(("spoil", "code"), [(False, 0), (True, 1)])
def test_command_reports_json_and_exits_by_its_findings(data, monkeypatch, capsys, spoil, code):
    if spoil:
        save(data / "test", "same.png", SCENES[5], SCENES[5])
    monkeypatch.setattr("sys.argv", ["audit", str(data), "--json"])
    assert command.main() == code
    report = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert report["parts"]["train"]["pairs"] == 12
    assert [finding["kind"] for finding in report["findings"]] == (["identical", "leak"] if spoil else [])


def test_report_names_every_kind_of_finding(data, monkeypatch, capsys):
    exchange(data / "train/clean", "3.png", "7.png")
    monkeypatch.setattr("sys.argv", ["audit", str(data)])
    assert command.main() == 1
    shown = capsys.readouterr().out
    assert "train: 12 pairs" in shown
    assert "mismatched: " in shown
    assert shown.rstrip().endswith("2 findings")


def test_scenes_are_told_apart():
    scenes = [Scene(clean) for clean in SCENES]
    assert same_scenes(scenes) == []
    again = [*scenes, Scene(jpeg(SCENES[6][1:, 1:])), Scene(SCENES[0]), Scene(jpeg(SCENES[6]))]
    assert same_scenes(again) == [[0, 21], [6, 20, 22]]


def test_mirrored_or_other_shaped_scenes_are_others():
    squeezed = np.array(Image.fromarray(SCENES[0]).resize((100, 160)))
    assert same_scenes([Scene(SCENES[0]), Scene(SCENES[0][:, ::-1]), Scene(squeezed)]) == []


def test_rain_hardly_changes_what_is_compared():
    heavy = Rain(length=30, width=1.0, density=0.004, intensity=0.7, depth=2)
    rainy = add_rain(SCENES[0], heavy, np.random.default_rng(0))
    bare = likeness(thumbnail(rainy), thumbnail(SCENES[0])[None])[0]
    cleaned = likeness(thumbnail(rainy, without_rain=True), thumbnail(SCENES[0], without_rain=True)[None])[0]
    assert cleaned > max(bare, 0.6)


def test_hash_counts_low_frequencies():
    first = perceptual_hash(SCENES[0])
    assert np.bitwise_count(first ^ perceptual_hash(jpeg(SCENES[0]))) <= 4
    assert np.bitwise_count(first ^ perceptual_hash(SCENES[5])) > 12
    brighter = np.minimum(SCENES[0].astype(int) + 3, 255).astype(np.uint8)
    assert np.bitwise_count(first ^ perceptual_hash(brighter)) <= 4
