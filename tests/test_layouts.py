import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoderain_jax.errors import InputError
from data_pipelines import find_data, open_pairs
from data_pipelines.images import read_rgb
from data_pipelines.known import NAMES, known
from data_pipelines.layouts import MOST_LINES, find_pairs, find_parts
from data_pipelines.matching import matched_files
from data_pipelines.synthetic import with_synthetic


def draw(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 16), (len(path.stem), 0, 0)).save(path)


def test_folders_with_and_without_splits(data_folder):
    assert [len(open_pairs(str(data_folder), split)) for split in ("train", "test")] == [5, 2]
    with pytest.raises(InputError, match="has no part 'val'; it has train, test"):
        open_pairs(str(data_folder), "val")
    flat = open_pairs(str(data_folder / "train"), "test")
    assert [pair.name for pair in flat] == [f"a{i}" for i in range(5)]
    rainy, clean = flat.rainy_clean(0)
    np.testing.assert_array_equal(rainy, read_rgb(data_folder / "train/rainy/a0.png"))
    np.testing.assert_array_equal(clean, read_rgb(data_folder / "train/clean/a0.png"))
    assert flat[0].size == rainy.shape[:2]


FAULTS = {
    "missing folder": (lambda d: d.rename(d.with_name("gone")), "does not exist"),
    "missing kind": (lambda d: (d / "train/clean").rename(d / "train/sharp"), "needs the folders rainy/ and clean/"),
    "unpaired": (lambda d: (d / "train/clean/a1.png").unlink(), r"rainy/a1\.png has no partner"),
    "unequal": (lambda d: Image.new("RGB", (5, 6)).save(d / "train/clean/a1.png"), "is 40x33 but .*a1.png is 5x6"),
    "text": (lambda d: (d / "train/rainy/a2.png").write_text("hello"), r"a2\.png is not an image"),
    "empty file": (lambda d: (d / "train/rainy/a2.png").write_bytes(b""), r"a2\.png is not an image"),
    "twins": (lambda d: Image.new("RGB", (40, 33)).save(d / "train/rainy/a1.jpg"), "same name, but for the suffix"),
    "no images": (lambda d: [f.unlink() for f in (d / "train/rainy").iterdir()], "holds no image"),
    "two of a part": (lambda d: (d / "Training").mkdir(), "holds both Training/ and train/: which one is meant"),
    "two of a kind": (lambda d: (d / "train/input").mkdir(), "holds both input/ and rainy/: which one is meant"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_folders_are_refused_in_one_sentence(data_folder, fault):
    spoil, sentence = FAULTS[fault]
    spoil(data_folder)
    with pytest.raises(InputError, match=sentence) as caught:
        open_pairs(str(data_folder), "train")
    assert "\n" not in str(caught.value)


def test_file_names_follow_one_rule_per_folder(tmp_path):
    draw(*(tmp_path / kind / f"{i}.png" for kind in ("input", "target") for i in range(4)))
    (tmp_path / "input/2.png").rename(tmp_path / "input/2_in.png")
    part = find_pairs(tmp_path)
    assert [files.name for files in part.files] == ["0", "1", "3"]
    assert {problem.path.name for problem in part.problems} == {"2_in.png", "2.png"}
    with pytest.raises(InputError, match=r"2_in\.png has no partner"):
        part.open()


def test_names_are_in_natural_order(tmp_path):
    draw(*(tmp_path / kind / f"norain-{i}.png" for kind in ("rain", "norain") for i in (1, 2, 10)))
    assert [pair.name for pair in find_pairs(tmp_path).open()] == ["norain-1", "norain-2", "norain-10"]


def test_variants_share_a_background(tmp_path):
    draw(*(tmp_path / f"rainy_image/{i}_{v}.jpg" for i in (1, 11) for v in (1, 2, 14)))
    draw(*(tmp_path / f"ground_truth/{i}.jpg" for i in (1, 11)))
    train, held_out = find_pairs(tmp_path).open().hold_out(0.5)
    assert {len(train), len(held_out)} == {3}
    assert not {pair.background for pair in train} & {pair.background for pair in held_out}


@pytest.mark.parametrize("separator", ["", "/", "./"])
def test_lists_of_pairs(tmp_path, separator):
    draw(tmp_path / "real/1/1-1.png", tmp_path / "real/1/1-2.png", tmp_path / "truth/1.png")
    lines = [f"{separator}real/1/1-{v}.png {separator}truth/1.png" for v in (1, 2)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    for data in (tmp_path, tmp_path / "list.txt"):
        pairs = open_pairs(str(data), "train")
        assert [pair.name for pair in pairs] == ["real/1/1-1", "real/1/1-2"]
        assert {pair.background for pair in pairs} == {"truth/1"}


@pytest.mark.parametrize(("rainy", "clean"), [("rain", "norain"), ("input", "gt")])
def test_lists_of_rainy_images(tmp_path, rainy, clean):
    draw(*(tmp_path / "rain800" / kind / f"{i}.png" for kind in (rainy, clean) for i in range(3)))
    (tmp_path / "split.txt").write_text(f"./rain800/{rainy}/0.png\nrain800/{rainy}/2.png\n")
    pairs = open_pairs(str(tmp_path / "split.txt"), "test")
    assert [pair.name for pair in pairs] == [f"rain800/{rainy}/0", f"rain800/{rainy}/2"]
    assert [pair.background for pair in pairs] == [f"rain800/{clean}/0", f"rain800/{clean}/2"]


@pytest.mark.parametrize("line", ["set/rainy/{}.png set/target/{}.png", "set/rainy/{}.png", "{}.png truth/{}.png"])
def test_folders_above_a_list_say_nothing(tmp_path, line):
    root = tmp_path / "clean/data"
    draw(*(root / folder / f"{i}.png" for folder in ("", "truth", "set/rainy", "set/target") for i in (1, 2)))
    (root / "list.txt").write_text("\n".join(line.format(i, i) for i in (1, 2)))
    backgrounds = {pair.background for pair in open_pairs(str(root / "list.txt"), "train")}
    assert backgrounds == {f"{'set/target' if 'set' in line else 'truth'}/{i}" for i in (1, 2)}
    (root / "list.txt").write_text("1.png")
    draw(tmp_path / "clean/gt/1.png")
    with pytest.raises(InputError, match=r"1\.png has no partner in a clean folder beside its own"):
        open_pairs(str(root / "list.txt"), "train")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a.png b.png", r"list\.txt, line 1: .*a\.png does not exist"),
        ("x.png x.png\n../x.png x.png", r"line 2: .*\.\./x\.png does not exist"),
        ("x.png x.png x.png", "line 1: it does not name one pair"),
        ("# a comment\nx.png", "line 2: .*x.png has no partner in a clean folder beside its own"),
        ("x.png x.png\nx.png x.png", "line 2: .*x.png is there a second time"),
        ("x.png x.png\nx.jpg x.png", "line 2: .*x.jpg is there a second time, or with another suffix"),
        (f"{'y' * 999} x.png", r"line 1: .*yyy does not exist"),
        (f"{'y ' * 9999}", "line 1: it does not name one pair"),
        ("\0.png x.png", r"line 1: .* does not exist"),
        ("", "is empty"),
    ],
)
def test_faulty_lists_are_refused_in_one_sentence(tmp_path, text, sentence):
    draw(tmp_path / "x.png", tmp_path / "x.jpg", tmp_path.parent / "x.png")
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(InputError, match=sentence) as caught:
        open_pairs(str(tmp_path / "list.txt"), "train")
    assert "\n" not in str(caught.value)


def test_lists_are_not_read_on_where_all_is_wrong(tmp_path):
    (tmp_path / "list.txt").write_text("a.png b.png\n" * (MOST_LINES + 9))
    part = find_parts(tmp_path / "list.txt")["all"]
    assert len(part.problems) == MOST_LINES + 1
    assert "line 10001: it is not read further" in part.problems[-1].sentence


def test_what_names_hold_is_told_on_one_line(tmp_path):
    draw(tmp_path / "rainy/a\nb\x1b[31m.png", tmp_path / "clean/1.png")
    with pytest.raises(InputError, match=r"rainy/a\\nb\\x1b\[31m\.png has no partner"):
        find_pairs(tmp_path).open()


def test_odd_width_cannot_be_side_by_side(tmp_path):
    Image.new("RGB", (21, 16)).save(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"1\.png is 21 pixels wide"):
        find_pairs(tmp_path, "left").open()


def test_known_sets_need_their_root(tmp_path):
    with pytest.raises(InputError, match="data set rain100h needs --data-root"):
        find_data("rain100h")
    with pytest.raises(InputError, match=r"holds no part of Rain100H; looked for .*RainTrainH"):
        find_data("rain100h", tmp_path)
    with pytest.raises(InputError, match="has no config 'fog'"):
        find_data("rain1200/fog", tmp_path)
    with pytest.raises(InputError, match=r"nor is it a data set that is known by name; did you mean .*rain100l"):
        find_data("rain100")
    with pytest.raises(InputError, match="those are rain100l, rain100h"):
        find_data("")
    draw(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x\.png is a file; data are a folder, a list of pairs"):
        find_data(str(tmp_path / "x.png"))


def test_why_a_known_set_was_not_found_is_told(tmp_path):
    draw(tmp_path / "RainTrainL/rain-1.png")
    with pytest.raises(InputError, match=r"RainTrainL needs the folders"):
        find_data("rain100l", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_declarations_are_consistent(name):
    data_set = known(name)
    assert data_set.name == name
    for place in (place for parts in (data_set.parts, *data_set.configs.values()) for place in parts.values()):
        assert all(count > 0 and what for count, what in place.counts.items())
        assert len(set(place.folders)) == len(place.folders)
        for folders in place.folders:
            assert all(folder.partition("|")[2] in ("", "left", "right") for folder in folders.split(" + "))


def test_images_are_read_as_they_are(data_folder):
    pairs = open_pairs(str(data_folder), "train")
    both = np.concatenate([read_rgb(data_folder / "train" / kind / "a0.png") for kind in ("rainy", "clean")], -1)
    np.testing.assert_array_equal(pairs.image(0), both)


def test_parts_may_lie_in_different_places_and_beside_other_sets(tmp_path):
    draw(*(tmp_path / f"RainTrainL/{kind}-1.png" for kind in ("rain", "norain")))
    draw(tmp_path / "Rain100L/rainy/rain-001.png", tmp_path / "Rain100L/norain-001.png")
    draw(*(tmp_path / part / kind / "7.png" for part in ("train", "test") for kind in ("input", "target")))
    parts = find_data("rain100l", tmp_path)
    assert {part: found.files[0].name for part, found in parts.items()} == {"train": "rain-1", "test": "rain-001"}


def test_folder_with_two_lists_asks_which_is_meant(tmp_path):
    draw(tmp_path / "real/1/1.png", tmp_path / "truth/1.png")
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text("real/1/1.png truth/1.png")
    with pytest.raises(InputError, match=r"holds the lists test\.txt and train\.txt: give the one that is meant"):
        open_pairs(str(tmp_path), "train")


def test_list_beside_whole_folders_does_not_replace_them(tmp_path):
    draw(*(tmp_path / kind / f"{i}.png" for kind in ("input", "gt") for i in range(3)))
    (tmp_path / "some.txt").write_text("input/0.png gt/0.png")
    assert len(open_pairs(str(tmp_path), "train")) == 3


def test_scenes_of_a_list_are_held_out_together(tmp_path):
    draw(*(tmp_path / f"real_world/{s}/{s}-{v}/{s}-{v}_0.png" for s in (1, 2, 3) for v in (1, 2)))
    draw(*(tmp_path / f"real_world_gt/{s}/{s}_0.png" for s in (1, 2, 3)))
    lines = [f"/real_world/{s}/{s}-{v}/{s}-{v}_0.png /real_world_gt/{s}/{s}_0.png" for s in (1, 2, 3) for v in (1, 2)]
    (tmp_path / "real_world.txt").write_text("\ufeff" + "\n".join(lines))
    assert {pair.background for pair in find_pairs(tmp_path).open()} == {f"real_world_gt/{s}" for s in (1, 2, 3)}


@pytest.mark.parametrize(("name", "home"), [("rain800", "Rain800/test"), ("rain200l", "Rain200L/test")])
def test_folders_are_preferred_to_images_side_by_side(tmp_path, name, home):
    draw(*(tmp_path / home / "rainy" / f"rain-{i}.png" for i in (1, 2)))
    draw(*(tmp_path / home / f"norain-{i}.png" for i in (1, 2)))
    parts = find_data(name, tmp_path)
    assert [(files.name, files.rainy_side) for files in parts["test"].files] == [("rain-1", None), ("rain-2", None)]


def test_one_empty_part_leaves_the_other_usable(data_folder):
    for path in (data_folder / "train").rglob("*.png"):
        path.unlink()
    assert len(open_pairs(str(data_folder), "test")) == 2
    with pytest.raises(InputError, match="holds no image"):
        open_pairs(str(data_folder), "train")


def test_names_of_any_encoding(tmp_path):
    for kind in (b"rainy", b"clean"):
        os.mkdir(os.path.join(os.fsencode(tmp_path), kind))
        for name in (b"caf\xe9.png", "1\u00b2.png".encode(), b"\xff\xfe.png"):
            Image.new("RGB", (20, 16)).save(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), kind, name))))
    train, held_out = find_pairs(tmp_path).open().hold_out(0.3)
    assert (len(train), len(held_out)) == (2, 1)
    assert train.listing_id() != held_out.listing_id()
    assert len(with_synthetic(train, "light", 1)[2].load()) == 16


def test_homes_of_nobody_are_told():
    with pytest.raises(InputError, match="does not exist"):
        find_data("~nobody-at-all/x")


def test_list_pairs_nested_rainy_with_flat_clean_images(tmp_path):
    numbers = [(scene, variant) for scene in (1, 2) for variant in (1, 2)]
    draw(*(tmp_path / f"real_world/{s}/{s}-{v}.png" for s, v in numbers))
    draw(*(tmp_path / f"real_world_gt/{s}.png" for s in (1, 2)))
    lines = [f"/real_world/{s}/{s}-{v}.png /real_world_gt/{s}.png" for s, v in numbers]
    (tmp_path / "real_world.txt").write_text("\n".join(lines))
    assert [pair.background for pair in find_pairs(tmp_path).open()] == [f"real_world_gt/{s}" for s, _ in numbers]


@pytest.mark.parametrize(
    ("stray", "sentence"),
    [("rainy/a9.gif", "a9.gif is of a type that is not read"), ("clean/more/a9.png", "more holds images below others")],
)
def test_nothing_among_the_images_is_passed_over(data_folder, stray, sentence):
    draw(data_folder / "train" / stray)
    with pytest.raises(InputError, match=sentence):
        open_pairs(str(data_folder), "train")


@pytest.mark.parametrize("output", ["{}_{}", "{}_{}_out", "{}_{}-DERAIN"])
def test_outputs_may_be_of_variants(tmp_path, output):
    draw(*(tmp_path / "out" / f"{output.format(i, v)}.png" for i in (1, 11) for v in (1, 14)))
    draw(*(tmp_path / "clean" / f"{i}.png" for i in (1, 11)))
    found = matched_files(tmp_path / "out", tmp_path / "clean")
    expected = [(output.format(i, v), f"{i}.png") for i in (1, 11) for v in (1, 14)]
    assert [(name, clean.name) for name, _, clean in found] == expected


def test_outputs_beside_inputs_are_not_scored_together(tmp_path):
    draw(*(tmp_path / "out" / f"{name}.png" for name in ("1", "1_out", "2", "2_out")))
    draw(*(tmp_path / "clean" / f"{i}.png" for i in (1, 2)))
    with pytest.raises(InputError, match=r"1_out\.png has no partner"):
        matched_files(tmp_path / "out", tmp_path / "clean")


def test_an_image_has_one_output(tmp_path):
    draw(*(tmp_path / "out" / f"{name}.png" for name in ("1_out", "1_restored", "2_out")))
    draw(*(tmp_path / "clean" / f"{i}.png" for i in (1, 2)))
    with pytest.raises(InputError, match=r"1_out\.png and .*1_restored\.png are both outputs for one image"):
        matched_files(tmp_path / "out", tmp_path / "clean")


def test_suffixes_of_methods_are_none_of_data(tmp_path):
    draw(*(tmp_path / "rainy" / f"{i}_out.png" for i in range(3)), *(tmp_path / "clean" / f"{i}.png" for i in range(3)))
    with pytest.raises(InputError, match=r"_out\.png has no partner"):
        find_pairs(tmp_path).open()
