"""Photographs upright: cameras store the pixels as the sensor has them, and in EXIF how to turn them."""

from __future__ import annotations

from PIL import ExifTags, Image

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation. Pillow's own function fails where it cannot write EXIF anew."""

LYING = (5, 6, 7, 8)
"""The orientations that turn an image on its side."""


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF data say, if they do; of what it holds besides pixels, nothing is changed."""
    # Pillow turns TIFF files as it decodes them, and then their EXIF data no longer tell it.
    image.load()
    turn = TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of what ``upright`` gives, which does not decode the image."""
    # Pillow tells the sides of TIFF files as they will be.
    lying = image.format != "TIFF" and _orientation(image) in LYING
    return (image.width, image.height) if lying else (image.height, image.width)


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        # What Pillow raises on EXIF data that are damaged depends on the damage; they tell nothing.
        return None
