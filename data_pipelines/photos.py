"""Photographs as files that people keep: what is not pixels stays with them, from file to file."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from autoderain_jax.errors import InputError
from autoderain_jax.files import partial_file
from data_pipelines.images import FORMATS, decode, exif_of

OPAQUE = ("JPEG", "BMP")
"""Formats that keep no transparency: BMP has it, but hardly any reader knows."""
QUALITY = 95
"""Of JPEG and WebP files, at which restored rain cannot be told from that of files without loss."""


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photograph, upright.

    Attributes:
      rgb: uint8 (h, w, 3).
      alpha: uint8 (h, w), None where its file has none.
      grey: whether its file has grey pixels.
      info: its colour profile (``icc_profile``) and its EXIF data (``exif``), where it has them; not those of TIFF
        files, which are also what tells of the pixels there.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    info: dict[str, bytes] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Photo:
        """Decodes a file; raises ``InputError`` as ``images.decode`` does."""
        return decode(path, cls._of)

    @classmethod
    def _of(cls, image: Image.Image) -> Photo:
        alpha = np.array(image.convert("RGBA").getchannel("A")) if image.has_transparency_data else None
        info = {"icc_profile": image.info["icc_profile"]} if image.info.get("icc_profile") else {}
        with contextlib.suppress(Exception):
            # Written anew, which leaves out the small picture that it may hold, as that is not restored. Where cameras
            # wrote what the standard does not know, Pillow may be unable to; the photograph matters more.
            if image.info.get("exif"):
                info["exif"] = _exif_anew(image)
        return cls(np.array(image.convert("RGB")), alpha, image.mode in ("1", "L", "LA"), info)

    def save(self, path: Path) -> None:
        """Writes the file whole or not at all, in the format that its name says.

        Raises:
          InputError: it cannot be written, or its format has no transparency and the photograph has.
        """
        kind = Image.registered_extensions().get(path.suffix.lower())
        if kind not in FORMATS:
            raise InputError(f"cannot write {path}: its name tells no known format")
        alpha = self.alpha
        if kind in OPAQUE and alpha is not None and alpha.min() == 255:
            alpha = None
        if alpha is not None and kind in OPAQUE:
            raise InputError(f"cannot write {path}: {kind} files have no transparency")
        image = Image.fromarray(self.rgb)
        if self.grey:
            image = image.convert("L")
        if alpha is not None:
            image.putalpha(Image.fromarray(alpha))
        options = dict(self.info)
        if kind == "JPEG":
            options |= {"quality": QUALITY, "subsampling": 0}
        elif kind == "WEBP":
            options |= {"quality": QUALITY}
        elif kind == "TIFF":
            # There it would also tell of the pixels; only a file whose name is wrong has any.
            options.pop("exif", None)
        try:
            with partial_file(path) as partial:
                image.save(partial, kind, **options)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None


class _Text(str):
    """Text of EXIF data, the bytes of which Pillow reads as Latin-1, but writes as ASCII with question marks."""

    def encode(self, *_: str) -> bytes:
        return super().encode("latin-1")


def _exif_anew(image: Image.Image) -> bytes:
    """EXIF data of an image that is upright by now, in the same words."""
    exif = exif_of(image)
    exif.pop(ExifTags.Base.Orientation, None)
    of_camera = exif.get_ifd(ExifTags.IFD.Exif)
    for tag, side in ((ExifTags.Base.ExifImageWidth, image.width), (ExifTags.Base.ExifImageHeight, image.height)):
        if tag in of_camera:
            of_camera[tag] = side
    for entries in (exif, of_camera, exif.get_ifd(ExifTags.IFD.GPSInfo)):
        entries.update({tag: _Text(value) for tag, value in entries.items() if isinstance(value, str)})
    return exif.tobytes()
