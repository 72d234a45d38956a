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

        At first each size has its own program. Then those two become one, as high and as wide as either, that waste the
        least by it, as long as a program costs more and there are more than ``FIRST``.

        Args:
          sizes: an image's each, multiples of the step.
          most: as for ``choose``.
        """
        counts, step = Counter(sizes), self._step
        coming = counts
        while len(coming) > MOST_PLANNED:
            coming, step = Counter(), 2 * step
            for (height, width), count in counts.items():
                coming[-(-height // step) * step, -(-width // step) * step] += count
        # What is compiled already costs nothing, neither to have nor to leave.
        found = np.array([(*size, coming[size]) for size in sorted({*coming, *self._known})], np.int64).reshape(-1, 3)
        while len(found) > FIRST:
            sides = np.maximum(found[:, None, :2], found[None, :, :2])
            spent = found.prod(1)
            waste = sides.prod(-1) * (found[:, None, 2] + found[None, :, 2]) - spent[:, None] - spent[None, :]
            allowed = (sides.prod(-1) <= most) & ~np.eye(len(found), dtype=bool)
            waste = np.where(allowed, waste, np.iinfo(np.int64).max)
            i, j = np.unravel_index(waste.argmin(), waste.shape)
            if waste[i, j] > self._price * (len(found) - 1):
                break
            both = [*sides[i, j], found[i, 2] + found[j, 2]]
            found = np.vstack([np.delete(found, [i, j], 0), both])
        programs = {*((int(height), int(width)) for height, width, _ in found), *self._known}
        for size in counts:
            if fitting := _fitting(size, programs, most):
                self._planned[size] = min(fitting, key=_pixels)

    def choose(self, size: Size, most: int) -> Size:
        """The size to run an image in: of a program that there is, or of one to be compiled now.

        Args:
          size: the image's, multiples of the step.
          most: pixels that a program may have, unless the image itself has more.
        """
        most = max(most, _pixels(size))
        planned = self._planned.get(size)
        chosen = planned if planned and _pixels(planned) <= most else self._choose(size, most)
        self._known.add(chosen)
        return chosen

    def _choose(self, size: Size, most: int) -> Size:
        # Made to measure, or for all that are not much smaller.
        options = [size, *[rounded for rounded in [tuple(map(self._round_up, size))] if _pixels(rounded) <= most]]
        fitting = _fitting(size, self._known, most)
        if not fitting:
            return options[0] if len(self._known) < FIRST else self._for_all(options[-1], most)
        best = min(fitting, key=_pixels)
        for option in options:
            if _pixels(option) < _pixels(best):
                self._wasted[option] += _pixels(best) - _pixels(option)
                if self._wasted[option] > self._price * len(self._known):
                    return option
        return best

    def _for_all(self, size: Size, most: int) -> Size:
        """A size that nothing fits in, or one for all so far, where ten like it waste less than compiling takes."""
        heights, widths = zip(size, *self._known, strict=True)
        cover = self._round_up(max(heights)), self._round_up(max(widths))
        return cover if _pixels(cover) <= most and 10 * (_pixels(cover) - _pixels(size)) <= self._price else size

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
