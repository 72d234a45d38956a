"""Files that are damaged, or made to harm: what ``tests.fuzz`` gives to readers."""

from __future__ import annotations

import copy
import io
import json
import struct
import zlib
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

NUMBERS = (0, 1, 2, 3, 6, 8, 16, 255, 4096, 9000, 2**14 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
"""What headers are made to say."""
WORDS = (
    "",
    "x",
    "..",
    "../x",
    "a/b",
    "/etc/passwd",
    "~",
    "nul\0",
    "\ud800",
    "\x1b[31m",
    "a\nb",
    "on",
    "conv3x3",
    "y" * 9999,
)
VALUES = (
    *(None, True, False, 0, -1, 1, 2, 48, 1000, 10**6, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan")),
    *(float("inf"), [], {}, [[]], [1], [1, 1], ["conv3x3"], ["conv3x3"] * 2, [1] * 2000, {"a": 1}, *WORDS),
)
"""What stands in JSON files in the place of what should."""
TOKENS = ("[" * 10**5 + "]" * 10**5, '{"a":' * 10**5, "9" * 5000, "1e999", "-Infinity", "tru", '"' + "z" * 10**6 + '"')
"""The same, where JSON writers would not write it."""
TOKEN = "replaced by a token"


@st.composite
def damaged(draw, wholes: tuple[bytes, ...]) -> bytes:
    """Bytes of one of some files, with bits flipped, parts cut out, repeated or of another, and numbers changed."""
    content = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(0, 4))):
        # Half of the time where headers are.
        most = draw(st.sampled_from((64, len(content))))
        at, end = sorted(draw(st.tuples(*[st.integers(0, min(most, len(content)))] * 2)))
        match draw(st.sampled_from(("flip", "number", "cut", "repeat", "splice", "bytes", "truncate"))):
            case "flip" if at < len(content):
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "number":
                kind = draw(st.sampled_from(("<B", "<H", ">H", "<I", ">I")))
                number = draw(st.sampled_from(NUMBERS)) % 256 ** struct.calcsize(kind)
                content[at : at + struct.calcsize(kind)] = struct.pack(kind, number)
            case "cut":
                del content[at:end]
            case "repeat":
                times = draw(st.sampled_from((2, 9, 300)))
                content[at:end] = content[at:end][: 2**18 // times] * times
            case "splice":
                content[at:end] = draw(st.sampled_from(wholes))[at:]
            case "bytes":
                content[at:end] = draw(st.binary(max_size=20))
            case "truncate":
                del content[at:]
    return bytes(content)


def places(value: Any, at: tuple = ()) -> list[tuple]:
    """Paths to everything in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in items for place in places(part, (*at, key)))]


@st.composite
def changed(draw, whole: Any) -> bytes:
    """A JSON file in which values are others, and names missing, additional, other or doubled; or a damaged one."""
    content = [copy.deepcopy(whole)]
    for _ in range(draw(st.integers(0, 3))):
        *parents, last = draw(st.sampled_from(places(content)[1:]))
        parent = content
        for key in parents:
            parent = parent[key]
        match draw(st.sampled_from(("other", "other", "token", "remove", "rename", "add"))):
            case "other":
                parent[last] = copy.deepcopy(draw(st.sampled_from(VALUES)))
            case "token":
                parent[last] = TOKEN
            case "remove" if parents:
                del parent[last]
            case "rename" if isinstance(parent, dict):
                parent[draw(st.sampled_from(WORDS))] = parent.pop(last)
            case "add" if isinstance(parent, dict):
                parent[draw(st.sampled_from(WORDS))] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    text = json.dumps(content[0], ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 9)) == 0:
        text = text.replace("}", ', "format": "twice", "width": 8}')
    encoded = text.replace(json.dumps(TOKEN), draw(st.sampled_from(TOKENS))).encode(errors="surrogatepass")
    return draw(damaged((encoded,))) if draw(st.integers(0, 4)) == 0 else encoded


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image as a file."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def some_images() -> tuple[bytes, ...]:
    """Small images of every format and of most of their kinds."""
    pixels = np.random.RandomState(0).randint(256, size=(4, 6, 3)).astype(np.uint8)
    rgb = Image.fromarray(pixels).resize((24, 16), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    also = {"exif": exif, "icc_profile": bytes(200)}
    more = {"save_all": True, "append_images": [rgb, rgb]}
    transparent = rgb.convert("RGBA")
    transparent.putalpha(100)
    return (
        encoded(rgb, "PNG", **also),
        *(encoded(rgb.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "I;16")),
        encoded(transparent, "PNG"),
        encoded(rgb, "PNG", **more),
        encoded(rgb, "JPEG", **also),
        encoded(rgb, "JPEG", progressive=True),
        encoded(rgb.convert("CMYK"), "JPEG"),
        encoded(rgb, "MPO", **more),
        encoded(rgb, "WEBP", **also),
        encoded(rgb, "WEBP", lossless=True),
        encoded(Image.new("RGB", (24, 16)), "WEBP", lossless=True),
        encoded(transparent, "WEBP", **more),
        *(encoded(rgb.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB")),
        *(encoded(rgb, "TIFF", compression=name) for name in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")),
        encoded(rgb, "TIFF", compression="jpeg", exif=exif),
        encoded(rgb, "TIFF", **more),
        encoded(rgb, "GIF"),
        encoded(rgb, "EPS"),
    )


def some_videos() -> tuple[bytes, ...]:
    """Tiny videos, of every container that is read, with sound."""
    import av

    pixels = np.random.RandomState(0).randint(256, size=(4, 6, 3)).astype(np.uint8)
    picture = np.asarray(Image.fromarray(pixels).resize((36, 24), Image.Resampling.BICUBIC))
    videos = []
    for container, codec, voice in (
        ("mp4", "libx264", "aac"),
        ("matroska", "libx264", "aac"),
        ("mov", "mjpeg", "pcm_s16le"),
    ):
        content = io.BytesIO()
        with av.open(content, "w", format=container) as file:
            pictures, sound = file.add_stream(codec, rate=10), file.add_stream(voice, rate=8000)
            pictures.height, pictures.width = picture.shape[:2]
            pictures.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for number in range(3):
                file.mux(pictures.encode(av.VideoFrame.from_ndarray(np.roll(picture, number, 1), format="rgb24")))
            file.mux(pictures.encode())
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.int16), format="s16", layout="mono")
            silence.sample_rate = 8000
            file.mux(sound.encode(silence))
            file.mux(sound.encode())
        videos.append(content.getvalue())
    return tuple(videos)


def with_checksums(png: bytes) -> bytes:
    """A PNG file whose checksums are right, so that what else is wrong with it is found."""
    content, at = bytearray(png), 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(content):
            break
        content[end : end + 4] = struct.pack(">I", zlib.crc32(content[at + 4 : end]))
        at = end + 4
    return bytes(content)


def image_files() -> st.SearchStrategy[bytes]:
    """Damaged images."""
    files = damaged(some_images())
    return files | files.map(with_checksums)
