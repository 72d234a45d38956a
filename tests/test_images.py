import contextlib
import gc
import io
import os
import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from autoderain_jax.errors import InputError
from data_pipelines import images
from data_pipelines.images import HEADER_BYTES, image_size, read_rgb
from data_pipelines.layouts import find_pairs
from data_pipelines.photos import Photo


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tif", "png"])
def test_photographs_are_read_upright(tmp_path, suffix):
    image = photograph()
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("rainy", "clean"):
        (tmp_path / kind).mkdir()
        image.save(
            tmp_path / kind / f"a.{suffix}", exif=exif, **({"quality": 100} if suffix in ("jpg", "webp") else {})
        )
    pairs = find_pairs(tmp_path).open()
    assert pairs[0].size == (48, 40)
    upright = np.array(image.transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(pairs.rainy_clean(0)[0] - upright).mean() < 4


def test_orientation_behind_the_pixels_is_refused(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = exif.tobytes()[6:]
    chunk = struct.pack(">I", len(content)) + b"eXIf" + content + struct.pack(">I", zlib.crc32(b"eXIf" + content))
    whole = encoded(photograph(), "png")
    (tmp_path / "a.png").write_bytes(whole[:-12] + chunk + whole[-12:])
    with pytest.raises(InputError, match="tells its orientation behind its pixels"):
        read_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tif", "png"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_size_known_before_decoding_is_that_of_the_pixels(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("rainy", "clean"):
        (tmp_path / kind).mkdir()
        Image.new("RGB", (30, 20)).save(tmp_path / kind / f"a.{suffix}", exif=exif)
    pairs = find_pairs(tmp_path).open()
    assert pairs[0].size == pairs.image(0).shape[:2]


def test_more_than_8_bits_are_refused_and_not_clipped(tmp_path):
    Image.fromarray(np.full((5, 6), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png has more than 8 bits per channel"):
        read_rgb(tmp_path / "deep.png")


def png(width, height, depth, colour, rows):
    """A PNG file by hand: of any bit depth and size, true or not."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def photograph(mode="RGB"):
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (5, 6, 3), dtype=np.uint8))
    return small.resize((48, 40), Image.Resampling.BICUBIC).convert(mode)


def encoded(image, suffix, **options):
    content = io.BytesIO()
    image.save(content, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()), **options)
    return content.getvalue()


def entries(size):
    """EXIF data, or a TIFF file, of which every entry is the whole."""
    count = (size - 14) // 12
    head = b"II*\0" + struct.pack("<IH", 8, count)
    rows = [struct.pack("<HHII", 1000 + i, 1, size - 8, 8) for i in range(count)]
    return (head + b"".join(rows)).ljust(size, b"\0")


def jpeg_with(marker, pieces):
    """A JPEG file that begins with some segments."""
    whole = encoded(photograph(), "jpg")
    # Without what a JFIF file begins with, which has its resolution.
    rest = whole[4 + int.from_bytes(whole[4:6], "big") :]
    return whole[:2] + b"".join(marker + struct.pack(">H", len(piece) + 2) + piece for piece in pieces) + rest


ENTRIES = entries(30_000)
SCANNED = encoded(photograph(), "jpg", progressive=True)
DEEP_RGB = png(8, 8, 16, 2, (b"\0" + bytes(48)) * 8)
REFUSED = {
    "16-bit colour": (DEEP_RGB, "png", "more than 8 bits per channel"),
    "16-bit colour and alpha": (png(8, 8, 16, 6, (b"\0" + bytes(64)) * 8), "png", "more than 8 bits per channel"),
    "16-bit grey and alpha": (png(8, 8, 16, 4, (b"\0" + bytes(32)) * 8), "png", "more than 8 bits per channel"),
    "floating point": (encoded(photograph("F"), "tif"), "tif", "more than 8 bits per channel"),
    "CMYK": (encoded(photograph("CMYK"), "jpg"), "jpg", "CMYK, made for print"),
    "transparent": (encoded(Image.new("RGBA", (8, 8), (9, 9, 9, 100)), "png"), "png", "transparent pixels"),
    "transparent palette": (
        encoded(photograph("P"), "png", transparency=photograph("P").getpixel((0, 0))),
        "png",
        "transparent pixels",
    ),
    "two frames": (
        encoded(photograph(), "tif", save_all=True, append_images=[photograph()]),
        "tif",
        "holds several images; one is wanted",
    ),
    "bomb": (png(60_000, 60_000, 8, 2, b"\0" * 9), "png", "claims more than .* pixels"),
    "large header": (png(9_000, 9_000, 1, 0, b"\0" * 9), "png", "claims 9,000x9,000 pixels in 68 bytes"),
    "short": (png(900, 900, 1, 0, b"\0" * 9), "png", "cannot read image"),
    "pixels from nothing": (png(6_000, 6_000, 1, 0, bytes(751) * 6_000), "png", "claims 6,000x6,000 pixels in"),
    "other formats": (encoded(photograph(), "eps"), "png", "not an image"),
    "endless scans": (SCANNED[:-2] + SCANNED[SCANNED.rindex(b"\xff\xda") : -2] * 200, "jpg", "more scans than any"),
    "EXIF in pieces": (jpeg_with(b"\xff\xe1", [b"Exif\0\0" + ENTRIES] * 3), "jpg", "takes more to read than any"),
    "long index": (jpeg_with(b"\xff\xe2", [b"MPF\0" + ENTRIES]), "jpg", "takes more to read than any"),
    "nothing": (b"", "png", "not an image"),
    "text": (b"hello", "jpg", "not an image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_change_its_meaning_is_refused_in_one_sentence(tmp_path, case):
    content, suffix, sentence = REFUSED[case]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence) as caught:
        read_rgb(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_modes_that_mean_the_same_in_rgb_are_read(tmp_path, mode):
    image = photograph(mode)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.array(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA"])
def test_images_made_rgb_strip_by_strip_are_those_made_at_once(tmp_path, mode, monkeypatch):
    monkeypatch.setattr(images, "STRIP_PIXELS", 48 * 7)
    photograph(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.array(photograph(mode).convert("RGB")))
    transparent = photograph("RGBA")
    transparent.putpixel((47, 39), (9, 9, 9, 254))
    transparent.save(tmp_path / "a.png")
    with pytest.raises(InputError, match="transparent pixels"):
        read_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_long_exif_is_read(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "m" * 200_000
    (tmp_path / f"a.{suffix}").write_bytes(encoded(photograph(), suffix, exif=exif))
    assert read_rgb(tmp_path / f"a.{suffix}").shape == np.array(photograph().rotate(90, expand=True)).shape


def test_exif_in_two_pieces_is_read(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    (tmp_path / "a.jpg").write_bytes(jpeg_with(b"\xff\xe1", [exif.tobytes()] * 2))
    assert read_rgb(tmp_path / "a.jpg").shape == np.array(photograph()).shape


def test_images_of_a_single_grey_are_read(tmp_path):
    Image.new("L", (6000, 4000), 128).save(tmp_path / "a.png", optimize=True)
    assert read_rgb(tmp_path / "a.png").shape == (4000, 6000, 3)
    # What Python holds is the array, and not copies of it.
    assert peak(lambda: read_rgb(tmp_path / "a.png")) < 1.2 * 4000 * 6000 * 3


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif"])
def test_damaged_files_never_raise_anything_but_a_sentence(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 3
    whole = encoded(photograph(), suffix, **({"exif": exif} if suffix in ("jpg", "webp", "png") else {}))
    pixels = np.array(Image.open(io.BytesIO(whole)).convert("RGB"))
    rng = random.Random(0)
    path = tmp_path / f"a.{suffix}"
    refused = 0
    for trial in range(150):
        content = bytearray(whole)
        if trial % 2:
            del content[rng.randrange(len(content)) :]
        else:
            for _ in range(rng.choice((1, 8))):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        for read in (image_size, read_rgb):
            sentence = image = None
            try:
                image = read(path)
            except InputError as error:
                sentence = str(error)
            if sentence:
                assert "\n" not in sentence
                assert str(path) in sentence
        refused += sentence is not None
        # PNG has checksums: what is read of a damaged one must be the image itself.
        if image is not None and suffix == "png":
            np.testing.assert_array_equal(image, pixels)
    assert refused > 50


def peak(function):
    """The most bytes that Python had allocated at once while a function ran."""
    gc.collect()
    tracemalloc.start()
    with contextlib.suppress(InputError):
        function()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_entries_of_headers_take_no_more_memory_than_a_file_should(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(entries(150_000))
    for read in (image_size, read_rgb):
        assert peak(lambda read=read: read(path)) < 2 * HEADER_BYTES
    # Refused, or read without them, which is up to Pillow.
    path.write_bytes(encoded(photograph(), "webp", exif=ENTRIES))
    for read in (image_size, read_rgb):
        assert peak(lambda read=read: read(path)) < 2**22
    path.write_bytes(encoded(photograph(), "png", exif=entries(30_000)))
    assert peak(lambda: Photo.read(path).save(path)) < 2 * 30_000**2 / 12


@pytest.mark.parametrize("read", [image_size, read_rgb])
def test_what_has_no_end_is_no_image(tmp_path, read):
    (tmp_path / "a.png").symlink_to(os.devnull)
    with pytest.raises(InputError, match="it is not a file"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("orientation", [0, 9])
def test_unknown_orientations_are_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph().save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.array(photograph()))
