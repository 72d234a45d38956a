import itertools

import chex
import numpy as np
import pytest
from PIL import Image

from autoderain_jax.errors import InputError
from data_pipelines import open_pairs
from data_pipelines.pairs import Pair, Pairs, folder_pairs, read_rgb
from data_pipelines.sampling import sample_patches
from data_pipelines.stream import numpy_batches, patch_stream
from data_pipelines.synthetic import Rain, add_rain, builtin_pairs, streaks

SIZES = np.array([(40, 33), (33, 40), (36, 36), (50, 34), (34, 34)])


def coordinates(height, width):
    """A pair whose pixels tell where they are: rainy holds (row, column, 1), clean (row, column, 2)."""
    grid = np.indices((height, width)).transpose(1, 2, 0).astype(np.uint8)
    halves = [np.concatenate([grid, np.full((height, width, 1), i, np.uint8)], -1) for i in (1, 2)]
    return Pair(f"{height}x{width}", f"{height}x{width}", (height, width), lambda: np.concatenate(halves, -1))


@pytest.fixture
def pairs():
    return Pairs([coordinates(*size) for size in SIZES.tolist()])


def test_rainy_and_clean_are_cropped_and_flipped_alike(pairs):
    stream = numpy_batches(pairs, patch=16, batch=8, seed=0)
    flips = set()
    for _ in range(5):
        batch = next(stream)
        for name in ("rainy", "clean"):
            chex.assert_shape(batch[name], (8, 16, 16, 3))
            chex.assert_type(batch[name], np.uint8)
        np.testing.assert_array_equal(batch["rainy"][..., :2], batch["clean"][..., :2])
        np.testing.assert_array_equal(batch["rainy"][..., 2], 1)
        np.testing.assert_array_equal(batch["clean"][..., 2], 2)
        rows, columns = batch["rainy"][..., 0].astype(int), batch["rainy"][..., 1].astype(int)
        np.testing.assert_array_equal(np.diff(rows, axis=1), 1)
        steps = np.diff(columns, axis=2)
        assert all(len(np.unique(patch)) == 1 for patch in steps)
        flips |= set(np.unique(steps))
    assert flips == {-1, 1}


def test_dataset_and_numpy_batches_agree(pairs):
    options = {"patch": 16, "batch": 2, "seed": 0, "start": 3}
    dataset = patch_stream(pairs, **options)
    chex.assert_trees_all_equal(next(dataset.as_numpy_iterator()), next(numpy_batches(pairs, **options)))


def test_stream_resumes_exactly_at_any_step(pairs):
    whole = numpy_batches(pairs, patch=16, batch=3, seed=4)
    batches = [next(whole) for _ in range(7)]
    resumed = numpy_batches(pairs, patch=16, batch=3, seed=4, start=5)
    for expected in batches[5:]:
        chex.assert_trees_all_equal(next(resumed), expected)
    other = next(numpy_batches(pairs, patch=16, batch=3, seed=5))
    assert not np.array_equal(other["rainy"], batches[0]["rainy"])


def test_each_epoch_visits_every_image_once_in_an_order_of_its_own():
    drawn = np.concatenate([sample_patches(SIZES, 16, 2, seed=1, step=step).image for step in range(10)])
    epochs = drawn.reshape(4, 5)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(5), (4, 1)))
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_crops_reach_every_place_and_stay_inside():
    samples = [sample_patches(SIZES, 32, 16, seed=0, step=step) for step in range(200)]
    image, top, left, flip = (np.concatenate(field) for field in zip(*samples, strict=True))
    for index, (height, width) in enumerate(SIZES):
        assert set(top[image == index]) == set(range(height - 32 + 1))
        assert set(left[image == index]) == set(range(width - 32 + 1))
    assert 0.45 < flip.mean() < 0.55


def test_first_patches_are_fixed_for_all_time():
    patches = sample_patches(SIZES, 16, 4, seed=7, step=3)
    assert patches.image.tolist() == [3, 1, 0, 1]
    assert patches.top.tolist() == [26, 17, 3, 17]
    assert patches.left.tolist() == [8, 24, 17, 23]
    assert patches.flip.tolist() == [False, False, True, True]


def test_held_out_images_are_whole_stable_and_nested(pairs):
    train, held_out = pairs.hold_out(0.4)
    names = [{pair.name for pair in part} for part in (train, held_out, pairs.hold_out(0.2)[1])]
    assert names[0] | names[1] == {pair.name for pair in pairs}
    assert not names[0] & names[1]
    assert [len(part) for part in names] == [3, 2, 1]
    assert names[2] < names[1]
    with pytest.raises(InputError, match="at least two"):
        Pairs([pairs[0]]).hold_out(0.5)


def test_backgrounds_are_never_on_both_sides():
    train, held_out = builtin_pairs("train").hold_out(0.3)
    backgrounds = [{pair.background for pair in part} for part in (train, held_out)]
    assert not backgrounds[0] & backgrounds[1]
    assert len(backgrounds[1]) == 1
    assert not {pair.background for pair in builtin_pairs("test")} & (backgrounds[0] | backgrounds[1])


def test_cache_stops_at_its_limit():
    loads = []

    def pair(name):
        return Pair(name, name, (10, 10), lambda: loads.append(name) or np.zeros((10, 10, 6), np.uint8))

    pairs = Pairs([pair("a"), pair("b")], cache_bytes=700)
    for index in (0, 1, 0, 1):
        pairs.image(index)
    assert loads == ["a", "b", "b"]


def test_folders_with_and_without_splits(data_folder):
    assert [len(open_pairs(str(data_folder), split)) for split in ("train", "test")] == [5, 2]
    flat = open_pairs(str(data_folder / "train"), "test")
    assert [pair.name for pair in flat] == [f"a{i}" for i in range(5)]
    rainy, clean = flat.rainy_clean(0)
    np.testing.assert_array_equal(rainy, read_rgb(data_folder / "train/rainy/a0.png"))
    np.testing.assert_array_equal(clean, read_rgb(data_folder / "train/clean/a0.png"))
    assert flat[0].size == rainy.shape[:2]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


FAULTS = {
    "missing folder": (lambda d: d.rename(d.with_name("gone")), "does not exist"),
    "missing kind": (lambda d: (d / "train/clean").rename(d / "train/sharp"), "needs the folders rainy/ and clean/"),
    "unpaired": (lambda d: (d / "train/clean/a1.png").unlink(), r"rainy/a1\.png has no partner"),
    "unequal": (lambda d: Image.new("RGB", (5, 6)).save(d / "train/clean/a1.png"), "is 40x33 but .*a1.png is 5x6"),
    "text": (lambda d: (d / "train/rainy/a2.png").write_text("hello"), r"a2\.png is not an image"),
    "empty file": (lambda d: (d / "train/rainy/a2.png").write_bytes(b""), r"a2\.png is not an image"),
    "twins": (lambda d: Image.new("RGB", (40, 33)).save(d / "train/rainy/a1.jpg"), "same name but for the suffix"),
    "no images": (lambda d: [f.unlink() for f in (d / "train/rainy").iterdir()], "holds no image"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_folders_are_refused_in_one_sentence(data_folder, fault):
    spoil, sentence = FAULTS[fault]
    spoil(data_folder)
    with pytest.raises(InputError, match=sentence) as caught:
        folder_pairs(data_folder, "train")
    assert "\n" not in str(caught.value)


def test_truncated_image_is_named_by_the_stream(data_folder):
    truncate(data_folder / "train/rainy/a2.png")
    stream = numpy_batches(folder_pairs(data_folder, "train"), patch=16, batch=5, seed=0)
    with pytest.raises(InputError, match=r"cannot read image .*a2\.png") as caught:
        list(itertools.islice(stream, 3))
    assert "\n" not in str(caught.value)


def test_image_smaller_than_the_patch_is_named(pairs):
    with pytest.raises(InputError, match=r"image 40x33 is 33x40, smaller than the patch \(36x36\)"):
        next(numpy_batches(pairs, patch=36, batch=2, seed=0))


def test_photographs_are_read_upright(tmp_path):
    image = Image.fromarray(np.arange(30, dtype=np.uint8).reshape(5, 6))
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("rainy", "clean"):
        (tmp_path / kind).mkdir()
        image.save(tmp_path / kind / "a.jpg", exif=exif)
    pairs = folder_pairs(tmp_path, "train")
    assert pairs[0].size == (6, 5)
    chex.assert_shape(pairs.image(0), (6, 5, 6))


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tif", "png"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_size_known_before_decoding_is_that_of_the_pixels(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("rainy", "clean"):
        (tmp_path / kind).mkdir()
        Image.new("RGB", (30, 20)).save(tmp_path / kind / f"a.{suffix}", exif=exif)
    pairs = folder_pairs(tmp_path, "train")
    assert pairs[0].size == pairs.image(0).shape[:2]


def test_more_than_8_bits_are_refused_and_not_clipped(tmp_path):
    Image.fromarray(np.full((5, 6), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png has more than 8 bits per channel"):
        read_rgb(tmp_path / "deep.png")


def test_streaks_follow_their_angle():
    for angle in (0.0, 30.0, -30.0):
        rain = Rain(angle=angle, length=40, width=0.8, density=0.0008, depth=1)
        spectrum = np.abs(np.fft.fft2(streaks((128, 128), rain, np.random.default_rng(0)))) ** 2
        spectrum[0, 0] = 0
        fy, fx = np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128), indexing="ij")
        # A streak's energy lies across it: its direction is that of least variance of frequency.
        tensor = np.array([[np.sum(spectrum * a * b) for a in (fy, fx)] for b in (fy, fx)])
        direction = np.linalg.eigh(tensor)[1][:, 0]
        assert np.rad2deg(np.arctan(direction[1] / direction[0])) == pytest.approx(angle, abs=3)


def test_rain_brightens_and_is_reproducible():
    clean = np.full((60, 70, 3), 90, np.uint8)
    for screen in (False, True):
        rain = Rain(density=0.005, screen=screen)
        rainy = add_rain(clean, rain, np.random.default_rng(1))
        chex.assert_shape(rainy, clean.shape)
        assert (rainy >= clean).all()
        assert (rainy > clean).mean() > 0.05
        np.testing.assert_array_equal(rainy, add_rain(clean, rain, np.random.default_rng(1)))
    hazy = add_rain(clean, Rain(density=0.0, veil=0.1), np.random.default_rng(1))
    np.testing.assert_array_equal(hazy, round(90 * 0.9 + 0.85 * 0.1 * 255))


def test_builtin_data_differs_by_variant_and_not_by_call():
    first, again = builtin_pairs("test"), builtin_pairs("test")
    np.testing.assert_array_equal(first.image(0), again.image(0))
    np.testing.assert_array_equal(first.rainy_clean(0)[1], first.rainy_clean(1)[1])
    assert not np.array_equal(first.rainy_clean(0)[0], first.rainy_clean(1)[0])
