import dataclasses

import chex
import numpy as np
import pytest
from PIL import Image

from autoderain_jax.errors import InputError
from autoderain_jax.metrics import score
from data_pipelines import find_data, open_pairs
from data_pipelines.synthetic import PRESETS, Rain, add_rain, photograph, streaks, with_synthetic


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
    first, again = open_pairs("synthetic", "test"), open_pairs("synthetic", "test")
    np.testing.assert_array_equal(first.image(0), again.image(0))
    np.testing.assert_array_equal(first.rainy_clean(0)[1], first.rainy_clean(1)[1])
    assert not np.array_equal(first.rainy_clean(0)[0], first.rainy_clean(1)[0])


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_draw_from_their_ranges(preset):
    ranges = dataclasses.replace(PRESETS[preset], scale=(1.0, 1.0))
    drawn = [ranges.sample(np.random.default_rng(seed)) for seed in range(200)]
    for name in ("angle", "spread", "length", "motion_blur", "width", "density", "intensity", "depth", "veil"):
        low, high = getattr(ranges, name)
        values = [getattr(rain, name) for rain in drawn]
        assert low <= min(values) <= low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) <= max(values) <= high
    assert np.mean([rain.screen for rain in drawn]) == pytest.approx(ranges.screen, abs=0.1)


def test_varied_rain_is_of_any_scale():
    ranges = PRESETS["varied"]
    scales = []
    for seed in range(200):
        rain = ranges.sample(np.random.default_rng(seed))
        unscaled = dataclasses.replace(ranges, scale=(1.0, 1.0)).sample(np.random.default_rng(seed))
        scales.append(rain.length / unscaled.length)
        assert rain.width / unscaled.width == pytest.approx(scales[-1])
        assert rain.motion_blur / unscaled.motion_blur == pytest.approx(scales[-1])
        assert unscaled.density / rain.density == pytest.approx(scales[-1] ** 2)
    low, high = ranges.scale
    assert low <= min(scales) < low + 0.1 < high - 0.1 < max(scales) <= high


def test_soft_scenes_lack_detail_and_some_get_no_rain():
    scene = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    pairs = [PRESETS["soft"].falls_on(scene, np.random.default_rng(seed)) for seed in range(1000)]
    chex.assert_equal_shape([scene, *(image for pair in pairs for image in pair)])
    dry = [np.array_equal(rainy, clean) for rainy, clean in pairs]
    as_it_is = [np.array_equal(clean, scene) for _, clean in pairs]
    # log(1 / 0.3) of log(4 / 0.3).
    assert np.mean(dry) == pytest.approx(PRESETS["soft"].dry, abs=0.04)
    assert np.mean(as_it_is) == pytest.approx(0.465, abs=0.04)
    detail = [np.abs(np.diff(clean.astype(float), axis=1)).mean() for _, clean in pairs]
    enlarged = [value for value, same in zip(detail, as_it_is, strict=True) if not same]
    assert max(enlarged) < np.abs(np.diff(scene.astype(float), axis=1)).mean()
    assert min(enlarged) < 0.4 * max(enlarged)


def test_other_presets_leave_the_scene_alone():
    scene = photograph("coffee")[:40, :50]
    rainy, clean = PRESETS["varied"].falls_on(scene, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    assert clean is scene
    np.testing.assert_array_equal(rainy, add_rain(scene, PRESETS["varied"].sample(rng), rng))


def test_heavy_rain_spoils_more_than_light():
    clean = photograph("coffee")[::2, ::2]
    psnr = {}
    for preset in ("light", "heavy"):
        scores = []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            scores.append(score(add_rain(clean, PRESETS[preset].sample(rng), rng), clean)["y-matlab"]["psnr"])
        psnr[preset] = np.mean(scores)
    assert 23 < psnr["light"] < 30
    assert 10 < psnr["heavy"] < 17


def test_motion_blur_fades_the_ends_of_streaks():
    def length(motion_blur):
        rain = Rain(angle=0, length=20, motion_blur=motion_blur, density=0.0002, depth=1, intensity=1.0)
        layer = streaks((200, 200), rain, np.random.default_rng(3))
        return np.count_nonzero(layer.max(axis=1) > 0.05)

    assert length(8.0) > length(0.5)


def test_spread_turns_the_layers_apart():
    def energy_across(spread):
        rain = Rain(angle=0, spread=spread, length=30, density=0.001, depth=4)
        spectrum = np.abs(np.fft.rfft2(streaks((128, 128), rain, np.random.default_rng(1)))) ** 2
        return spectrum[20:-20].sum() / spectrum.sum()

    assert energy_across(40.0) > 2 * energy_across(0.0)


def test_rain_over_a_folder_of_photographs(tmp_path):
    for name in ("sea", "hill"):
        Image.fromarray(photograph("coffee")[:40, :50]).save(tmp_path / f"{name}.png")
    pairs = open_pairs(f"synthetic/heavy:{tmp_path}", "train")
    assert len(pairs) == 64
    assert {pair.background for pair in pairs} == {"sea", "hill"}
    rainy, clean = pairs.rainy_clean(0)
    np.testing.assert_array_equal(clean, photograph("coffee")[:40, :50])
    assert rainy.mean() > clean.mean() + 10
    assert set(find_data(f"synthetic:{tmp_path}")) == {"all"}


def test_folders_of_photographs_may_have_parts(tmp_path):
    for part, name in (("train", "a"), ("test", "b")):
        (tmp_path / part).mkdir()
        Image.fromarray(photograph("coffee")[:40, :50]).save(tmp_path / part / f"{name}.png")
    assert {pair.background for pair in open_pairs(f"synthetic:{tmp_path}", "test")} == {"b"}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("synthetic/drizzle", "no preset 'drizzle' of synthetic rain; there are mixed, light, heavy, varied, soft"),
        ("synthetic:nowhere", "folder of photographs 'nowhere' does not exist"),
        ("synthetic:{empty}", "holds no image"),
        ("synthetic:{twins}", r"a\.jpg and a\.png have the same name but for the suffix: remove one of the two"),
    ],
)
def test_faulty_sources_are_refused_in_one_sentence(tmp_path, data, sentence):
    for folder in ("empty", "twins"):
        (tmp_path / folder).mkdir()
    for name in ("a.jpg", "a.png", "b.png"):
        Image.fromarray(photograph("coffee")[:40, :50]).save(tmp_path / "twins" / name)
    with pytest.raises(InputError, match=sentence):
        find_data(data.format(empty=tmp_path / "empty", twins=tmp_path / "twins"))


def test_augmentation_adds_rain_over_the_same_backgrounds(data_folder):
    pairs = open_pairs(str(data_folder), "train")
    more = with_synthetic(pairs, "light", 2)
    assert len(more) == 3 * len(pairs)
    assert {pair.background for pair in more} == {pair.background for pair in pairs}
    for index in range(len(pairs), len(more)):
        rainy, clean = more.rainy_clean(index)
        original = next(i for i, pair in enumerate(pairs) if pair.background == more[index].background)
        np.testing.assert_array_equal(clean, pairs.rainy_clean(original)[1])
        assert (rainy >= clean).all()
        assert more[index].size == clean.shape[:2]
    assert len({pair.name for pair in more}) == len(more)
    chex.assert_trees_all_equal(more.image(7), with_synthetic(pairs, "light", 2).image(7))


def test_augmentation_of_synthetic_data_adds_other_rain(data_folder):
    pairs = open_pairs(f"synthetic/light:{data_folder / 'train/clean'}", "train")
    more = with_synthetic(pairs, "light", 1)
    assert len({pair.name for pair in more}) == len(more) > len(pairs)
    rainy, clean = more.rainy_clean(len(pairs))
    others = [i for i, pair in enumerate(pairs) if pair.background == more[len(pairs)].background]
    assert others
    for i in others:
        np.testing.assert_array_equal(pairs.rainy_clean(i)[1], clean)
        assert (pairs.rainy_clean(i)[0] != rainy).any()
