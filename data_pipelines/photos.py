"""Photographs as files that people keep: what is not pixels stays with them, from file to file."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from autoderain_jax.errors import InputError
from data_pipelines.images import decode, exif_of

OPAQUE = (".jpg", ".jpeg", ".bmp")
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
                exif = exif_of(image)
                exif.pop(ExifTags.Base.Orientation, None)
                info["exif"] = exif.tobytes()
        return cls(np.array(image.convert("RGB")), alpha, image.mode in ("1", "L", "LA"), info)

    def save(self, path: Path) -> None:
        """Writes the file whole or not at all, in the format that its name says.

        Raises:
          InputError: it cannot be written, or its format has no transparency and the photograph has.
        """
        suffix = path.suffix.lower()
        alpha = self.alpha
        if suffix in OPAQUE and alpha is not None and alpha.min() == 255:
            alpha = None
        if alpha is not None and suffix in OPAQUE:
            raise InputError(f"cannot write {path}: {suffix[1:]} files have no transparency")
        image = Image.fromarray(self.rgb)
        if self.grey:
            image = image.convert("L")
        if alpha is not None:
            image.putalpha(Image.fromarray(alpha))
        options = dict(self.info)
        if suffix in (".jpg", ".jpeg"):
            options |= {"quality": QUALITY, "subsampling": 0}
        elif suffix == ".webp":
            options |= {"quality": QUALITY}
        elif suffix in (".tif", ".tiff"):
            # There it would also tell of the pixels; only a file whose name is wrong has any.
            options.pop("exif", None)
        partial = path.with_name(f".{path.name}.partial")
        try:
            image.save(partial, Image.registered_extensions()[suffix], **options)
            partial.replace(path)
        except KeyError:
            raise InputError(f"cannot write {path}: its name tells no known format") from None
        except (OSError, ValueError) as error:
            raise InputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None
        finally:
            partial.unlink(missing_ok=True)
