import itertools
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest
from PIL import Image

from autoderain_jax.errors import InputError
from data_pipelines import batches as batching
from data_pipelines import open_pairs
from data_pipelines.batches import as_floats, batches
from data_pipelines.device_stream import DeviceBatch, cut, device_batches
from data_pipelines.layouts import find_pairs
from data_pipelines.pairs import Pair, Pairs
from data_pipelines.sampling import Sampling, sample_patches, sample_rain
from data_pipelines.stream import numpy_batches, patch_stream

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
    stream = numpy_batches(pairs, Sampling(16, 8, 0))
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
    dataset = patch_stream(pairs, Sampling(16, 2, 0), start=3)
    chex.assert_trees_all_equal(
        next(dataset.as_numpy_iterator()), next(numpy_batches(pairs, Sampling(16, 2, 0), start=3))
    )


def test_stream_resumes_exactly_at_any_step(pairs):
    whole = numpy_batches(pairs, Sampling(16, 3, 4))
    batches = [next(whole) for _ in range(7)]
    resumed = numpy_batches(pairs, Sampling(16, 3, 4), start=5)
    for expected in batches[5:]:
        chex.assert_trees_all_equal(next(resumed), expected)
    other = next(numpy_batches(pairs, Sampling(16, 3, 5)))
    assert not np.array_equal(other["rainy"], batches[0]["rainy"])


def test_each_epoch_visits_every_image_once_in_an_order_of_its_own():
    drawn = np.concatenate([sample_patches(SIZES, Sampling(16, 2, 1), step=step).image for step in range(10)])
    epochs = drawn.reshape(4, 5)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(5), (4, 1)))
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_crops_reach_every_place_and_stay_inside():
    samples = [sample_patches(SIZES, Sampling(32, 16, 0), step=step) for step in range(200)]
    image, top, left, flip = (np.concatenate(field) for field in zip(*samples, strict=True))
    for index, (height, width) in enumerate(SIZES):
        assert set(top[image == index]) == set(range(height - 32 + 1))
        assert set(left[image == index]) == set(range(width - 32 + 1))
    assert 0.45 < flip.mean() < 0.55


def test_first_patches_are_fixed_for_all_time():
    patches = sample_patches(SIZES, Sampling(16, 4, 7), step=3)
    assert patches.image.tolist() == [3, 1, 0, 1]
    assert patches.top.tolist() == [26, 17, 3, 17]
    assert patches.left.tolist() == [8, 24, 17, 23]
    assert patches.flip.tolist() == [False, False, True, True]


def test_swapped_rain_is_that_of_another_patch_over_the_same_scene():
    scenes = [Pair(str(i), str(i), (40, 40), lambda i=i: scene(i)) for i in range(5)]

    def scene(i):
        # Rain of image i is i + 1 everywhere; the last is too bright to show all of it.
        clean = np.full((40, 40, 3), 254 if i == 4 else 20 * i, np.uint8)
        return np.concatenate([np.minimum(clean.astype(int) + i + 1, 255).astype(np.uint8), clean], -1)

    pairs, sampling = Pairs(scenes), Sampling(16, 50, 0, swap_rain=0.4)
    swapped, plain = (next(numpy_batches(pairs, drawn)) for drawn in (sampling, Sampling(16, 50, 0)))
    np.testing.assert_array_equal(swapped["clean"], plain["clean"])
    own, rain = (draw(pairs.sizes, sampling, 0) for draw in (sample_patches, sample_rain))
    shown = np.where(rain.image == 4, 1, rain.image + 1)
    expected = np.minimum(plain["clean"][:, 0, 0, 0].astype(int) + shown, 255)
    np.testing.assert_array_equal(swapped["rainy"], np.broadcast_to(expected[:, None, None, None], (50, 16, 16, 3)))
    others = (np.stack(own) != np.stack(rain)).any(0)
    assert 10 < others.sum() < 30
    assert set(rain.image[others]) == set(range(5))
    assert not (np.stack(own) != np.stack(sample_rain(pairs.sizes, Sampling(16, 50, 0, 1e-9), 0))).any()
    assert (np.stack(own) != np.stack(sample_rain(pairs.sizes, Sampling(16, 50, 0, 1.0), 0))).any(0).all()


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
    train, held_out = open_pairs("synthetic", "train").hold_out(0.3)
    backgrounds = [{pair.background for pair in part} for part in (train, held_out)]
    assert not backgrounds[0] & backgrounds[1]
    assert len(backgrounds[1]) == 1
    assert not {pair.background for pair in open_pairs("synthetic", "test")} & (backgrounds[0] | backgrounds[1])


def test_cache_stops_at_its_limit():
    loads = []

    def pair(name):
        return Pair(name, name, (10, 10), lambda: loads.append(name) or np.zeros((10, 10, 6), np.uint8))

    pairs = Pairs([pair("a"), pair("b")], cache_bytes=700)
    for index in (0, 1, 0, 1):
        pairs.image(index)
    assert loads == ["a", "b", "b"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def test_truncated_image_is_named_by_the_stream(data_folder):
    truncate(data_folder / "train/rainy/a2.png")
    stream = numpy_batches(open_pairs(str(data_folder), "train"), Sampling(16, 5, 0))
    with pytest.raises(InputError, match=r"cannot read image .*a2\.png") as caught:
        list(itertools.islice(stream, 3))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["rainy", "clean"])
@pytest.mark.parametrize("stream", ["device", "tf"])
def test_an_image_replaced_by_one_of_another_size_is_named(data_folder, stream, kind):
    opened = open_pairs(str(data_folder), "train")
    height, width = opened.sizes[2]
    Image.new("RGB", (width + 2, height)).save(data_folder / f"train/{kind}/a2.png")
    with pytest.raises(InputError, match=rf"{kind}/a2\.png is {width + 2}x{height} but was {width}x{height} when"):
        next(batches(opened, Sampling(16, 5, 0), stream=stream))


def test_halves_replaced_by_others_are_named(tmp_path):
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    pairs = find_pairs(tmp_path, "left").open()
    assert pairs.image(0).shape == (20, 20, 6)
    Image.new("RGB", (41, 20)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png is 41x20 but was 40x20"):
        pairs[0].load()


@pytest.mark.parametrize("stream", ["device", "tf"])
def test_a_file_that_vanishes_is_named(data_folder, stream):
    opened = open_pairs(str(data_folder), "train")
    (data_folder / "train/clean/a2.png").unlink()
    with pytest.raises(InputError, match=r"^cannot read image .*clean/a2\.png: No such file or directory$"):
        next(batches(opened, Sampling(16, 5, 0), stream=stream))


def test_image_smaller_than_the_patch_is_named(pairs):
    with pytest.raises(InputError, match=r"image 40x33 is 33x40, smaller than --patch 36"):
        next(numpy_batches(pairs, Sampling(36, 2, 0)))


@pytest.mark.parametrize("start", [0, 7])
@pytest.mark.parametrize("swap_rain", [0.0, 0.5])
def test_device_stream_gives_the_same_patches(pairs, start, swap_rain):
    sampling = Sampling(16, 4, 3, swap_rain)
    cut_out = jax.jit(cut)
    host, device = numpy_batches(pairs, sampling, start=start), device_batches(pairs, sampling, start=start)
    for _ in range(5):
        chex.assert_trees_all_equal(jax.device_get(cut_out(next(device))), next(host))


def test_device_stream_compiles_its_step_once(pairs):
    cut_out = jax.jit(chex.assert_max_traces(cut, n=1))
    stream = device_batches(pairs, Sampling(16, 4, 3))
    for _ in range(3):
        cut_out(next(stream))


@pytest.mark.parametrize("stream", ["device", "tf"])
def test_shards_of_processes_are_disjoint_and_make_up_the_batch(pairs, stream):
    sampling, options = Sampling(16, 6, 1, swap_rain=0.5), {"start": 2, "stream": stream}
    whole = batches(pairs, sampling, **options)
    shards = [batches(pairs, sampling, **options, shard=(index, 3)) for index in range(3)]
    for _ in range(3):
        parts = [as_floats(next(shard)) for shard in shards]
        for part in parts:
            chex.assert_shape(part, (2, 16, 16, 3))
        together = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
        chex.assert_trees_all_equal(together, jax.device_get(as_floats(next(whole))))


@pytest.mark.parametrize("stream", ["device", "tf"])
def test_batch_that_cannot_be_shared_is_refused(pairs, stream):
    with pytest.raises(InputError, match="--batch 5 cannot be shared equally among 2 processes"):
        next(batches(pairs, Sampling(16, 5, 0), shard=(0, 2), stream=stream))


def test_stream_is_chosen_by_size(pairs, monkeypatch):
    kinds = []
    for limit in (pairs.nbytes, pairs.nbytes - 1):
        monkeypatch.setattr(batching, "HOST_BYTES", limit)
        kinds.append(type(next(batches(pairs, Sampling(16, 2, 0)))))
    assert kinds == [DeviceBatch, dict]
    assert pairs.nbytes == sum(pair.load().nbytes for pair in pairs)


def test_processes_choose_one_stream(pairs, monkeypatch):
    """The smallest of all decides, as on another machine here."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for others, chosen in ((True, True), (False, False)):
        monkeypatch.setattr(batching, "process_allgather", lambda mine, others=others: np.stack([mine, others]))
        assert batching.fits(pairs) is chosen


def test_floats_are_in_the_unit_interval(pairs):
    batch = next(numpy_batches(pairs, Sampling(16, 2, 0)))
    rainy, clean = as_floats(batch)
    chex.assert_type([rainy, clean], np.float32)
    np.testing.assert_allclose(rainy * 255, batch["rainy"], atol=1e-4)
    np.testing.assert_allclose(clean * 255, batch["clean"], atol=1e-4)


def test_unreadable_image_is_named_by_the_device_stream(data_folder):
    truncate(data_folder / "train/rainy/a2.png")
    with pytest.raises(InputError, match=r"cannot read image .*a2\.png"):
        # Before any batch is asked for.
        device_batches(open_pairs(str(data_folder), "train"), Sampling(16, 5, 0))


def test_two_processes_share_the_stream(data_folder, tmp_path):
    code = """
import sys
import numpy as np
from data_pipelines import open_pairs
from data_pipelines.batches import as_floats, batches
from data_pipelines.sampling import Sampling
data, index, stream, out = sys.argv[1:]
mine = batches(open_pairs(data, "train"), Sampling(16, 4, 2), start=5, shard=(int(index), 2), stream=stream)
np.save(out, np.stack([np.concatenate(as_floats(next(mine)), -1) for _ in range(6)]))
"""
    parts = []
    for index, stream in enumerate(("device", "tf")):
        out = tmp_path / f"{index}.npy"
        subprocess.run([sys.executable, "-c", code, data_folder, str(index), stream, out], check=True)
        parts.append(np.load(out))
    whole = batches(open_pairs(str(data_folder), "train"), Sampling(16, 4, 2), start=5)
    for step in range(6):
        together = np.concatenate([part[step] for part in parts])
        np.testing.assert_array_equal(together, np.concatenate(as_floats(next(whole)), -1))


def test_a_process_ends_while_batches_are_being_prepared(data_folder):
    code = """
import sys, time
from data_pipelines import open_pairs, stream
from data_pipelines.sampling import Sampling
real = stream.patch_batch
def slow(*args):
    time.sleep(0.3)
    return real(*args)
stream.patch_batch = slow
batches = stream.numpy_batches(open_pairs(sys.argv[1], "train"), Sampling(16, 2, 0))
next(batches)
"""
    subprocess.run([sys.executable, "-c", code, data_folder], check=True, timeout=60)
