"""Which sizes to compile a program for, when images of many sizes come.

An image may run in a program for larger ones, which wastes time, or have one compiled, which takes time. Where it is
known what images are to come, programs are planned for all of them. Where it is not, one does as who rents skis until
the rent has come to their price: waste is put up with until it has come to what compiling takes. As programs take
memory, too, the price of each grows with the number of those there are, so that they remain few however many images
come. All is counted in pixels, not in seconds, so that the same images in the same order always run in the same
programs. All ours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

Size = tuple[int, int]
"""Height and width in pixels."""

PRICES = {"cpu": 4 * 10**5}
"""Pixels that are restored in the time in which a program is compiled, by platform, for the packaged model."""
PRICE = 2 * 10**8
"""The same on others."""
FIRST = 3
"""So many programs are made to measure, as photographs that belong together mostly have few sizes."""
MOST_PLANNED = 200
"""Of more sizes than these, those that are nearly alike are planned for as one."""


class Sizes:
    """Chooses, for every image, the size of the program that it runs in.

    Args:
      step: sides of all programs are multiples of so many pixels, a power of two.
      price: of compiling the second program, in pixels; of the n-th, n - 1 times as much.
    """

    def __init__(self, step: int, price: int = PRICE):
        self._step, self._price = step, price
        self._known: set[Size] = set()
        self._planned: dict[Size, Size] = {}
        self._wasted: dict[Size, int] = defaultdict(int)

    def plan(self, sizes: Iterable[Size], most: int) -> None:
        """Says which images are to come, in any order: programs are then chosen for all of them together.

        At first each size has its own program. Then, as long as a program costs more than is wasted, what wastes the
        least is done: a size goes into a program that there is, or two become one, as high and as wide as either, which
        they do only while there are more than ``FIRST``. What was planned before stays so.

        Args:
          sizes: an image's each, multiples of the step.
          most: as for ``choose``.
        """
        counts = Counter(size for size in sizes if not self._has_plan(size, most))
        coming, step = counts, self._step
        while len(coming) > MOST_PLANNED:
            coming, step = Counter(), 2 * step
            for (height, width), count in counts.items():
                coming[-(-height // step) * step, -(-width // step) * step] += count
        # What is compiled or planned already costs nothing, neither to have nor to leave.
        there = {*self._known, *self._planned.values()}
        old = np.array(sorted(there), np.int64).reshape(-1, 2)
        new = np.array([(*size, coming[size]) for size in sorted(coming)], np.int64).reshape(-1, 3)
        while len(new):
            programs = np.vstack([new[:, :2], old])
            images = np.concatenate([new[:, 2], np.zeros(len(old), np.int64)])
            sides = np.maximum(new[:, None, :2], programs[None])
            pixels = sides.prod(-1)
            waste = pixels * (new[:, None, 2] + images) - new.prod(1)[:, None] - programs.prod(1) * images
            allowed = pixels <= most
            allowed[:, : len(new)] &= ~np.eye(len(new), dtype=bool) & (len(programs) > FIRST)
            allowed[:, len(new) :] &= (sides == programs).all(-1)[:, len(new) :]
            waste = np.where(allowed, waste, np.iinfo(np.int64).max)
            i, j = np.unravel_index(waste.argmin(), waste.shape)
            if waste[i, j] > self._price * (len(programs) - 1):
                break
            joined = [(*sides[i, j], new[i, 2] + images[j])] if j < len(new) else []
            new = np.vstack([np.delete(new, [i, j] if joined else i, 0), *joined])
        for size in [(int(height), int(width)) for height, width, _ in new]:
            there.add(size if len(old) < FIRST else self._for_all(size, most))
        for size in counts:
            best = min(_fitting(size, there, most), key=_pixels, default=size)
            # In one that is compiled the waste adds up, until it has come to the price of another.
            if best not in self._known:
                self._planned[size] = best

    def choose(self, size: Size, most: int) -> Size:
        """The size to run an image in: of a program that there is, or of one to be compiled now.

        Args:
          size: the image's, multiples of the step.
          most: pixels that a program may have, unless the image itself has more.
        """
        most = max(most, _pixels(size))
        chosen = self._planned[size] if self._has_plan(size, most) else self._choose(size, most)
        self._known.add(chosen)
        return chosen

    def _has_plan(self, size: Size, most: int) -> bool:
        return size in self._planned and _pixels(self._planned[size]) <= most

    def _choose(self, size: Size, most: int) -> Size:
        fitting = _fitting(size, self._known, most)
        if not fitting:
            return size if len(self._known) < FIRST else self._for_all(size, most)
        best = min(fitting, key=_pixels)
        # Made to measure, or for all that are not much smaller.
        for option in {size: None, self._rounded(size, most): None}:
            if _pixels(option) < _pixels(best):
                self._wasted[option] += _pixels(best) - _pixels(option)
                if self._wasted[option] > self._price * len(self._known):
                    return option
        return best

    def _for_all(self, size: Size, most: int) -> Size:
        """A size that nothing fits in, or one for all so far, where ten like it waste less than compiling takes."""
        size = self._rounded(size, most)
        heights, widths = zip(size, *self._known, strict=True)
        cover = self._round_up(max(heights)), self._round_up(max(widths))
        return cover if _pixels(cover) <= most and 10 * (_pixels(cover) - _pixels(size)) <= self._price else size

    def _rounded(self, size: Size, most: int) -> Size:
        """A size for all that are not much smaller, or itself where memory allows no more."""
        rounded = self._round_up(size[0]), self._round_up(size[1])
        return rounded if _pixels(rounded) <= most else size

    def _round_up(self, side: int) -> int:
        """The least that is not smaller among the powers of two and the numbers half way between them."""
        octave = self._step
        while 2 * octave < side:
            octave *= 2
        rungs = (octave, -(-3 * octave // (2 * self._step)) * self._step, 2 * octave)
        return next(rung for rung in rungs if rung >= side)


def _fitting(size: Size, programs: Iterable[Size], most: int) -> list[Size]:
    """Those of the programs that an image can run in."""
    return [one for one in programs if all(map(int.__ge__, one, size)) and _pixels(one) <= most]


def _pixels(size: Size) -> int:
    return size[0] * size[1]
