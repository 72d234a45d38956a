"""``experiments.derain``: what becomes of files."""

import errno
import os
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from autoderain_jax import Derainer, InputError
from autoderain_jax.metrics import score
from autoderain_jax.orientation import upright
from data_pipelines.images import image_size, read_rgb
from data_pipelines.photos import Photo
from data_pipelines.synthetic import Rain, add_rain, photograph
from experiments import command as command_module
from experiments import derain
from tests.running import run
from tests.samples import write_pairs


def test_derain_goes_on_after_a_broken_file(command, tmp_path):
    (tmp_path / "broken.jpg").write_text("no photograph")
    Image.new("RGB", (30, 21)).save(tmp_path / "fine.jpg")
    code, out, err = command("broken.jpg", "fine.jpg")
    assert code == 1
    assert "broken.jpg is not an image that can be read" in err
    assert "1 of 2 inputs failed" in err
    assert "fine.jpg" in out
    assert "1 restored in " in out
    with Image.open(tmp_path / "out/fine.jpg") as image:
        assert image.size == (30, 21)


def test_programs_are_planned_for_all_photographs(command, tmp_path):
    """Also for one that lies on its side, and although one cannot be read."""
    for i, size in enumerate([(61, 44), (40, 60), (52, 50), (36, 63)]):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6 if i == 1 else 1
        Image.new("RGB", size).save(tmp_path / f"{i}.jpg", exif=exif)
    (tmp_path / "broken.jpg").write_text("no photograph")
    _, out, _ = command("0.jpg", "1.jpg", "2.jpg", "3.jpg", "broken.jpg")
    assert "4 restored in " in out
    assert "of which there are 3\n" in out


def test_derain_never_overwrites(tmp_path, monkeypatch, capfd):
    write_pairs(tmp_path / "photos", [(12, 12)])
    rainy, clean = tmp_path / "photos/rainy", tmp_path / "photos/clean"
    code, _, err = run(monkeypatch, capfd, derain, rainy, "--output", rainy)
    assert (code, "would overwrite the input" in err) == (2, True)
    code, _, err = run(monkeypatch, capfd, derain, rainy, clean, "--output", tmp_path / "out")
    assert (code, "two inputs are named a0.png" in err) == (2, True)


def test_derain_without_photographs_is_refused(monkeypatch, capfd, tmp_path):
    code, _, err = run(monkeypatch, capfd, derain, "--output", tmp_path)
    assert (code, "give at least one photograph" in err) == (2, True)


def test_packaged_model_restores_a_photograph(monkeypatch, capfd, tmp_path):
    clean = photograph("chelsea")[:150, :200]
    rainy = add_rain(clean, Rain(density=0.0016), np.random.default_rng(0))
    Image.fromarray(rainy).save(tmp_path / "cat.png")
    assert run(monkeypatch, capfd, derain, tmp_path / "cat.png", "--output", tmp_path / "out")[0] == 0
    before, after = (score(image, clean)["y-matlab"]["psnr"] for image in (rainy, read_rgb(tmp_path / "out/cat.png")))
    assert after > before + 3


def test_a_turned_photograph_comes_out_upright_with_its_data(command, tmp_path, rainy, restored):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Model] = "a camera"
    # Which says ASCII; nobody keeps to it.
    exif[ExifTags.Base.Copyright] = "\u00a9 Zo\u00eb, \u96e8".encode()
    of_camera = exif.get_ifd(ExifTags.IFD.Exif)
    of_camera[ExifTags.Base.LensModel] = Latin("Zei\u00df 50")
    of_camera[ExifTags.Base.ExifImageWidth], of_camera[ExifTags.Base.ExifImageHeight] = rainy.shape[:2]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Shown after a quarter turn clockwise.
    Image.fromarray(np.rot90(rainy)).save(tmp_path / "turned.png", exif=exif, icc_profile=profile)
    assert command("turned.png")[0] == 0
    with Image.open(tmp_path / "out/turned.png") as image:
        np.testing.assert_array_equal(np.array(image), restored)
        assert ExifTags.Base.Orientation not in image.getexif()
        assert image.getexif()[ExifTags.Base.Model] == "a camera"
        assert image.getexif()[ExifTags.Base.Copyright].encode("latin-1").decode() == "\u00a9 Zo\u00eb, \u96e8"
        of_camera = image.getexif().get_ifd(ExifTags.IFD.Exif)
        assert of_camera[ExifTags.Base.LensModel] == "Zei\u00df 50"
        assert (of_camera[ExifTags.Base.ExifImageWidth], of_camera[ExifTags.Base.ExifImageHeight]) == image.size
        assert image.info["icc_profile"] == profile


class Latin(str):
    """Which Pillow would write as ASCII."""

    def encode(self, *_):
        return super().encode("latin-1")


def closed(folder):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def test_names_as_long_as_they_may_be_and_hidden_ones_that_are_given(command, tmp_path, rainy, restored):
    (tmp_path / "many").mkdir()
    for name in (f"{'a' * 251}.png", "b.png", ".c.png"):
        Image.fromarray(rainy).save(tmp_path / "many" / name)
    for _ in range(2):
        code, out, err = command("many", "many/.c.png", "--compare")
        # The strip of the first would have too long a name.
        assert (code, "2 restored in " in out) == (1, True)
        assert re.fullmatch(
            r"error: cannot write out/compared/a+\.png\.png: File name too long\n1 of 3 inputs failed\n", err
        )
    for name in (f"{'a' * 251}.png", ".c.png"):
        np.testing.assert_array_equal(read_rgb(tmp_path / "out" / name), restored)


@pytest.mark.parametrize("name", ["gone.png", "g*.png"])
def test_links_to_nothing_are_told_and_the_rest_goes_on(command, tmp_path, rainy, name):
    Image.fromarray(rainy).save(tmp_path / "a.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    code, out, err = command("a.png", name)
    assert (code, "1 restored in " in out) == (1, True)
    assert err == "error: input gone.png does not exist\n1 of 2 inputs failed\n"


def test_a_folder_that_cannot_be_read_is_told_and_the_rest_goes_on(command, tmp_path, rainy, monkeypatch):
    Image.fromarray(rainy).save(tmp_path / "a.png")
    (tmp_path / "closed").mkdir()
    # Root may read every folder.
    monkeypatch.setattr(Path, "iterdir", closed)
    code, out, err = command("closed", "a.png")
    assert (code, "1 restored in " in out) == (1, True)
    assert err == "error: cannot read folder closed: Permission denied\n1 of 2 inputs failed\n"


def test_transparency_and_grey_are_kept(command, tmp_path, rainy, restored):
    alpha = np.full(rainy.shape[:2], 255, np.uint8)
    alpha[:20] = 7
    Image.fromarray(np.dstack([rainy, alpha])).save(tmp_path / "clear.png")
    Image.fromarray(rainy).convert("L").save(tmp_path / "grey.jpg")
    assert command("clear.png", "grey.jpg")[0] == 0
    with Image.open(tmp_path / "out/clear.png") as image:
        np.testing.assert_array_equal(np.array(image), np.dstack([restored, alpha]))
    with Image.open(tmp_path / "out/grey.jpg") as image:
        assert (image.mode, image.size) == ("L", (200, 150))


def test_what_is_passed_over_in_a_folder_is_told(command, tmp_path, rainy):
    folder = tmp_path / "holiday"
    folder.mkdir()
    Image.fromarray(rainy).save(folder / "a.png")
    for name in ("b.HEIC", "c.heic", "notes", ".hidden"):
        (folder / name).touch()
    code, _, err = command("holiday")
    assert (code, err) == (0, "holiday: passed over 3 of 4 files (.heic, notes)\n")


def test_inputs_that_are_none_are_told_and_the_rest_goes_on(command, tmp_path, rainy):
    Image.fromarray(rainy).save(tmp_path / "a.png")
    (tmp_path / "b.heic").touch()
    (tmp_path / "empty").mkdir()
    code, _, err = command("a.png", long := f"{'a' * 300}.png")
    assert (code, err) == (1, f"error: input {long} does not exist\n1 of 2 inputs failed\n")
    code, out, err = command("b.heic", "a.png", "empty", "gone.png")
    assert (code, "1 restored in" in out) == (1, True)
    assert re.fullmatch(
        r"error: input b.heic is not of a known type .*\nerror: empty holds no photograph or video .*\n"
        r"error: input gone.png does not exist\n3 of 4 inputs failed\n",
        err,
    )
    assert (tmp_path / "out/a.png").exists()
    assert command("b.heic")[0] == 2


def test_a_pattern_in_quotes_is_as_one_that_the_shell_expands(command, tmp_path, rainy):
    (tmp_path / "holiday/more").mkdir(parents=True)
    Image.fromarray(rainy).save(tmp_path / "holiday/a.png")
    Image.fromarray(rainy).save(tmp_path / "holiday/more/c.png")
    (tmp_path / "holiday/b.heic").touch()
    code, out, err = command("holiday/*")
    assert (code, "2 restored in" in out) == (1, True)
    assert re.fullmatch(r"error: input holiday/b.heic is not of a known type .*\n1 of 3 inputs failed\n", err)


def test_strips_of_videos_alone_are_refused_before_anything_is_written(command, tmp_path):
    pytest.importorskip("av")
    (tmp_path / "rain.mp4").touch()
    code, _, err = command("rain.mp4", "--compare")
    assert (code, err) == (2, "error: --compare is of photographs, and there are only videos: leave it out\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("chosen", "kept"), [(None, command_module.KEPT_SECONDS), ("1.0", 1.0)])
def test_programs_that_compile_in_less_than_a_second_are_kept(monkeypatch, chosen, kept):
    name = "jax_persistent_cache_min_compile_time_secs"
    monkeypatch.delenv(name.upper(), raising=False)
    if chosen:
        monkeypatch.setenv(name.upper(), chosen)
    before = getattr(jax.config, name)
    jax.config.update(name, 1.0)
    try:
        command_module.keep_programs()
        assert getattr(jax.config, name) == kept
    finally:
        jax.config.update(name, before)


def test_sixteen_bits_are_refused_and_nothing_is_left(command, tmp_path):
    Image.fromarray(np.zeros((20, 20), np.uint16)).save(tmp_path / "deep.png")
    code, _, err = command("deep.png")
    assert (code, "deep.png has more than 8 bits per channel" in err) == (1, True)
    assert not list((tmp_path / "out").iterdir())


def test_patterns_and_comparisons(command, tmp_path, rainy, restored):
    for name in ("a1.png", "a2.png", "b1.png"):
        Image.fromarray(rainy).save(tmp_path / name)
    assert command("a*.png", "--compare")[0] == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a1.png", "a2.png", "compared"]
    np.testing.assert_array_equal(read_rgb(tmp_path / "out/compared/a1.png.png"), np.hstack([rainy, restored]))
    code, _, err = command("c*.png")
    assert (code, "c*.png does not exist" in err) == (2, True)


def test_little_memory_gives_the_same_picture(command, tmp_path):
    rainy = add_rain(photograph("astronaut"), Rain(density=0.0016), np.random.default_rng(0))
    Image.fromarray(rainy).save(tmp_path / "a.png")
    assert command("a.png", "--memory", "0.001")[0] == 0
    whole = Derainer.from_pretrained()(rainy)
    assert np.abs(whole.astype(int) - read_rgb(tmp_path / "out/a.png")).max() <= 1
    code, _, err = command("a.png", "--memory", "-1")
    assert (code, "--memory must be positive" in err) == (2, True)


def test_photographs_are_restored_in_less_precision(command, tmp_path, rainy, restored):
    Image.fromarray(rainy).save(tmp_path / "a.png")
    assert command("a.png", "--dtype", "bfloat16")[0] == 0
    difference = np.abs(read_rgb(tmp_path / "out/a.png").astype(int) - restored)
    assert 0 < difference.mean() < 0.5


def test_four_orientations_are_better_than_one(command, tmp_path, rainy, restored):
    Image.fromarray(rainy).save(tmp_path / "a.png")
    assert command("a.png", "--ensemble", "4")[0] == 0
    clean = photograph("chelsea")[:150, :200]
    one, four = (score(image, clean)["y-matlab"]["psnr"] for image in (restored, read_rgb(tmp_path / "out/a.png")))
    assert four > one


def test_comparisons_never_overwrite(command, tmp_path, rainy):
    (tmp_path / "out/compared").mkdir(parents=True)
    Image.fromarray(rainy).save(tmp_path / "out/compared/a.png.png")
    Image.fromarray(rainy).save(tmp_path / "a.png")
    code, _, err = command("a.png", "out/compared/a.png.png", "--compare")
    assert (code, "would overwrite the input out/compared/a.png.png" in err) == (2, True)


def test_one_file_by_two_names_is_restored_once(command, tmp_path, rainy):
    Image.fromarray(rainy).save(tmp_path / "a.png")
    code, out, _ = command("a.png", tmp_path / "a.png")
    assert (code, "1 restored in" in out) == (0, True)


def test_transparency_that_a_format_does_not_keep_is_refused(tmp_path, rainy):
    with pytest.raises(InputError, match="BMP files have no transparency"):
        Photo(rainy, alpha=rainy[..., 0]).save(tmp_path / "a.bmp")
    assert not list(tmp_path.iterdir())
    # An alpha channel alone is none.
    Photo(rainy, alpha=np.full(rainy.shape[:2], 255, np.uint8)).save(tmp_path / "a.bmp")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.bmp"), rainy)


def test_formats_are_told_by_every_ending_that_they_have(tmp_path, rainy):
    for name in ("a.jpg", "b.jfif"):
        Photo(rainy).save(tmp_path / name)
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jfif").read_bytes()
    for name in ("c.gif", "d"):
        with pytest.raises(InputError, match="its name tells no known format"):
            Photo(rainy).save(tmp_path / name)


def test_exif_does_not_tell_of_the_pixels_of_a_tiff_file(tmp_path, rainy):
    """As it would that of a JPEG file named like one, in which cameras write their own width and height."""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageWidth], exif[ExifTags.Base.ImageLength] = 4000, 3000
    Image.fromarray(rainy).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "a.jpg").rename(tmp_path / "a.tif")
    photo = Photo.read(tmp_path / "a.tif")
    photo.save(tmp_path / "b.tif")
    np.testing.assert_array_equal(read_rgb(tmp_path / "b.tif"), photo.rgb)


@pytest.mark.parametrize("content", [b"", b"neither MM nor II"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_damaged_exif_does_not_keep_a_photograph_from_being_restored(command, tmp_path, rainy, suffix, content):
    Image.fromarray(rainy).save(tmp_path / f"odd.{suffix}", exif=b"Exif\0\0" + content)
    code, _, err = command(f"odd.{suffix}")
    assert (code, err) == (0, "")
    assert image_size(tmp_path / f"odd.{suffix}") == rainy.shape[:2]
    with Image.open(tmp_path / f"odd.{suffix}") as image:
        assert upright(image).size == rainy.shape[1::-1]


@pytest.mark.parametrize("orientation", [1, 6])
def test_odd_exif_does_not_keep_a_photograph_from_being_restored(command, tmp_path, rainy, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "a camera"
    exif[ExifTags.Base.Orientation] = orientation
    # ResolutionUnit as a text: read, but not written, by Pillow.
    odd = exif.tobytes().replace(b"\x01\x10\x00\x02", b"\x01\x28\x00\x02")
    assert odd != exif.tobytes()
    Image.fromarray(rainy).save(tmp_path / "odd.jpg", exif=odd)
    assert command("odd.jpg")[0] == 0
    with Image.open(tmp_path / "out/odd.jpg") as image:
        assert image.size == ((200, 150) if orientation == 1 else (150, 200))


def test_a_photograph_too_large_for_the_memory_is_told_and_the_rest_goes_on(command, tmp_path, rainy, monkeypatch):
    for name in ("a.png", "b.png"):
        Image.fromarray(rainy).save(tmp_path / name)
    errors = [jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")]

    def starved(self, image):
        if errors:
            raise errors.pop()
        return image

    monkeypatch.setattr(Derainer, "__call__", starved)
    code, _, err = command("a.png", "b.png")
    assert (code, "error: not enough memory for a.png: lower --memory" in err) == (1, True)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["b.png"]
    errors.append(jax.errors.JaxRuntimeError("INTERNAL: something else"))
    monkeypatch.undo()
    monkeypatch.setattr(Derainer, "__call__", starved)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        derain.derain(derain.DerainConfig((tmp_path / "a.png",), tmp_path / "out"))
