"""Copies Rain100L and plants faults in the copy, for the audit to find: ``python docs/faults.py RAIN100L COPY``."""

import shutil
import sys
from pathlib import Path

from PIL import Image

source, copy = map(Path, sys.argv[1:])
shutil.copytree(source, copy)
train, test = copy / "train", copy / "test"


def rewrite(path, change):
    """Changes the bytes of a file."""
    path.write_bytes(change(bytearray(path.read_bytes())))


def flip(content):
    """Flips a bit in the middle."""
    content[len(content) // 2] ^= 4
    return content


# Two clean images take each other's place.
swapped = [train / "clean" / f"norain-{i}.png" for i in (20, 133)]
contents = [path.read_bytes() for path in swapped]
for path, content in zip(swapped, reversed(contents), strict=True):
    path.write_bytes(content)
(test / "rainy/norain-50.png").rename(test / "rainy/norain-500.png")
rewrite(train / "rainy/norain-77.png", lambda content: content[: 2 * len(content) // 3])
rewrite(test / "clean/norain-60.png", flip)
shutil.copy(train / "clean/norain-40.png", train / "rainy/norain-40.png")
Image.open(train / "clean/norain-41.png").crop((0, 0, 320, 320)).save(train / "clean/norain-41.png")
# Training images in the test part: cropped by a pixel, compressed, both, as they are.
for kind in ("rainy", "clean"):
    for number, crop, name in ((5, 1, "a.png"), (6, 0, "b.jpg"), (9, 1, "c.jpg"), (10, 0, "d.png")):
        image = Image.open(train / kind / f"norain-{number}.png").convert("RGB")
        options = {"quality": 80} if name.endswith("jpg") else {}
        image.crop((crop, 0, *image.size)).save(test / kind / f"leak-{name}", **options)
