"""Image files in, upright 8-bit RGB out; whatever cannot become that without a change of meaning is refused."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from autoderain_jax.errors import InputError, in_short
from autoderain_jax.files import read_bytes
from autoderain_jax.orientation import LYING, TURNS

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
ORIENTED = ("JPEG", "MPO", "WEBP")
"""Formats whose EXIF orientation is known before the pixels are decoded; PNG's is if it stands before them."""
# Pillow warns of odd metadata, and of images above 89 megapixels; it refuses those of twice as many. A filter for the
# moment of reading would not be safe among threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""What is read, whatever a file's name says: Pillow knows others, some of which it has other programs read."""
UNREAD = (".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm", ".tga", ".exr", ".npy", ".mat", ".dng")
"""Other types of images, which are told of instead of being passed over."""
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "YCbCr")
"""Modes of images that become RGB without a change of meaning."""

MOST_BYTES = 2**30
"""Of a file: more than the pixels of the largest images take as they are."""
ALWAYS_PIXELS = 2**24
PIXELS_PER_BYTE = 1100
LARGE_PIXELS = 2**26
PIXELS_PER_BYTE_OF_LARGE = 500
"""An image may have as many pixels for each byte of its file, or ``ALWAYS_PIXELS``. A PNG file of a single grey has
1,030, for that is as far as its compression goes, one of a single colour 350, and photographs have fewer than 100; a
few bytes could claim gigabytes otherwise."""
HEADER_BYTES = 2**26
"""Besides its length, so much may be read of a file before its pixels are. Of TIFF files each of many thousand entries
could be the whole file."""
EXIF_BYTES = 2**16
"""A JPEG file's EXIF data may have as much, in all its pieces: it is what one holds. Its entries are like those of TIFF
files, and as Pillow reads them when it opens a file, they cannot be watched. Where they can, as much may be read of
EXIF data besides its length."""
INDEX_BYTES = 2**12
"""Of a JPEG file's index of further images, which has a hundred, in entries too."""
SCANS = 100
BYTES_PER_SCAN = 2**13
"""A JPEG file may have so many scans, and another for every so many bytes; usual are ten. Each is a pass over all
pixels, and thirty bytes suffice for one."""
STRIP_PIXELS = 2**20
"""Of an image that are made RGB at once."""

T = TypeVar("T")


class UnsuitableImage(InputError):
    """A sound image that cannot become 8-bit RGB without a change of meaning."""


def read_rgb(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decodes an image file as upright uint8 RGB (h, w, 3).

    PNG files are verified by their checksums. JPEG and WebP have none: a flipped bit in one of these may change pixels
    without a trace.

    Besides the file, reading takes at most 2.7 times as much memory as the pixels it returns, of which Pillow's own
    copies are more than a half; decoders of progressive JPEG take 3.5 times as much, those of WebP 5.5 times.

    Args:
      path: of the file.
      size: (height, width) that it had when it was listed, if it was.

    Raises:
      UnsuitableImage: it has more than 8 bits per channel, transparent pixels, several frames, or colours (CMYK,
        CIELAB) that RGB does not hold.
      InputError: it cannot be read or is damaged, or is of another size by now.
    """
    rgb = decode(path, lambda image: _opaque_rgb(image, path))
    height, width = rgb.shape[:2]
    if size and size != (height, width):
        raise InputError(
            f"{path} is {width}x{height} but was {size[1]}x{size[0]} when the data were opened: leave files as they "
            "are while they are used"
        )
    return rgb


def decode(path: Path, use: Callable[[Image.Image], T]) -> T:
    """What ``use`` makes of a decoded image, which is upright, in its own mode and has its metadata.

    Raises:
      UnsuitableImage, InputError: as for ``read_rgb``, but that pixels may be transparent.
    """
    try:
        content = read_bytes(path, "image", MOST_BYTES)
        _require_sound(content, path)
        with Image.open(file := _Content(content).watch(), formats=FORMATS) as image:
            file.limit = None
            turned = _orientation(image) != 1
            image.load()
            if not turned and _orientation(image) != 1:
                raise UnsuitableImage(
                    f"{path} tells its orientation behind its pixels: turn it upright and save it anew"
                )
            if not turned:
                return use(image)
            upright = image.transpose(TURNS[_orientation(image)])
            # Two of them would be more than reading takes.
            image.close()
            return use(upright)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path} is not an image that can be read") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path} claims more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except Exception as error:
        # What Pillow raises on a damaged file depends on where the damage is: nearly anything.
        reason = getattr(error, "strerror", None) or in_short(error)
        raise InputError(f"cannot read image {path}: {reason}") from None


def exif_of(image: Image.Image) -> Image.Exif:
    """The EXIF data of an image that has such, which takes no more memory than it should."""
    content = image.info["exif"].removeprefix(b"Exif\0\0")
    exif, file = Image.Exif(), _Content(content)
    file.limit = EXIF_BYTES + len(content)
    exif.load_from_fp(file)
    # Pillow makes a warning of what a file refuses.
    file.check()
    return exif


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of the upright image from the file's header alone; raises ``InputError`` naming the file."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"cannot read image {path}: it is not a file")
        with _File(path) as file, Image.open(file.watch(), formats=FORMATS) as image:
            lying = _orientation(image) in LYING
            return (image.width, image.height) if lying else (image.height, image.width)
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and (error.strerror or isinstance(error, _TooMuch)):
            raise InputError(f"cannot read image {path}: {error.strerror or error}") from None
        raise InputError(f"{path} is not an image that can be read") from None


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name; raises ``InputError`` if there is no such folder."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    return sorted(path for path in folder.iterdir() if is_image_name(path))


def some_images(folder: Path) -> list[Path]:
    """The same; raises ``InputError`` if there is none as well."""
    files = image_files(folder)
    if not files:
        raise InputError(f"{folder} holds no image ({', '.join(SUFFIXES)})")
    return files


def is_image_name(path: Path) -> bool:
    """Whether a file is named like an image and is not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation of an image that is not upright yet, as far as it is known without decoding; 1 is upright."""
    try:
        if "exif" in image.info:
            exif_of(image)
        told = image.format in ORIENTED or (image.format == "PNG" and "exif" in image.info)
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if told else 1
    except _TooMuch:
        raise
    except Exception:
        # EXIF data that are damaged or empty tell nothing; the pixels are none the worse.
        return 1
    # Some cameras write 0, and damaged files anything.
    return orientation if orientation in tuple(TURNS) else 1


def _require_sound(content: bytes, path: Path) -> None:
    """Refuses what should not be decoded, or is found to be damaged before that."""
    with Image.open(file := _Content(content).watch(), formats=FORMATS) as image:
        _require_plain(image, path)
        _require_plausible(image, content, path)
        file.limit = None
        if image.format == "PNG":
            image.verify()


def _require_plain(image: Image.Image, path: Path) -> None:
    """Refuses what Pillow would reduce to 8-bit RGB without a word."""
    if image.mode == "CMYK":
        raise UnsuitableImage(f"{path} is CMYK, made for print: convert it to RGB")
    # Pillow drops the lower byte of 16-bit colour, and only the name of the raw data tells. BGR;16 is 5-6-5 bits.
    raw = [tile.args if isinstance(tile.args, str) else str(tile.args[0]) for tile in image.tile if tile.args]
    deep = any(";16" in name and not name.startswith("BGR") for name in raw)
    if image.mode not in MODES or deep:
        raise UnsuitableImage(
            f"{path} has more than 8 bits per channel or no RGB colours (mode {image.mode}): convert it"
        )
    if _holds_several(image):
        raise UnsuitableImage(f"{path} holds several images; one is wanted")


def _holds_several(image: Image.Image) -> bool:
    if image.format != "TIFF":
        return image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    try:
        # To count them takes a while where there are many.
        image.seek(1)
    except EOFError:
        return False
    return True


def _require_plausible(image: Image.Image, content: bytes, path: Path) -> None:
    """Refuses a file that would take memory or time beyond all proportion."""
    pixels = image.width * image.height
    ratio = PIXELS_PER_BYTE if pixels <= LARGE_PIXELS else PIXELS_PER_BYTE_OF_LARGE
    if pixels > max(ALWAYS_PIXELS, ratio * len(content)):
        raise InputError(f"{path} claims {image.width:,}x{image.height:,} pixels in {len(content):,} bytes")
    if image.format in ("JPEG", "MPO") and content.count(b"\xff\xda") > SCANS + len(content) // BYTES_PER_SCAN:
        raise InputError(f"{path} is a JPEG file of more scans than any photograph")


class _TooMuch(OSError):
    """A header takes more to read than any should."""


class _Watched:
    """A file of which a header cannot have much more read than there is."""

    limit: int | None = None
    _exif = 0
    _index = 0

    def watch(self) -> Self:
        """Watches what is read from now on, for as long as there is a limit."""
        self.limit = HEADER_BYTES + self.seek(0, io.SEEK_END)
        self.seek(0)
        return self

    def read(self, size: int | None = -1) -> bytes:
        """As other files do; raises ``OSError`` where it becomes too much."""
        content = super().read(size)
        if self.limit is not None:
            self.limit -= len(content)
            # Pillow joins what JPEG files hold in several pieces.
            self._exif += len(content) if content.startswith(b"Exif\0\0") else 0
            self._index += len(content) if content.startswith(b"MPF\0") else 0
            self.check()
        return content

    def check(self) -> None:
        """Raises ``OSError`` if more was read than should have been."""
        if (self.limit is not None and self.limit < 0) or self._exif > EXIF_BYTES or self._index > INDEX_BYTES:
            raise _TooMuch("its header takes more to read than any should")


class _Content(_Watched, io.BytesIO):
    pass


class _File(_Watched, io.FileIO):
    pass


def _opaque_rgb(image: Image.Image, path: Path) -> np.ndarray:
    """The pixels of an image that has no transparent ones, of which strips are converted at a time, for the memory."""
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        if strip.has_transparency_data and strip.convert("RGBA").getchannel("A").getextrema()[0] < 255:
            raise UnsuitableImage(f"{path} has transparent pixels: put it on a background first")
        rgb[top : top + rows] = strip.convert("RGB")
    return rgb
