"""The U-shaped deraining network, supernet and derived network in one description.

The abstract of the paper says: U-shaped, mainly of RSEBs. Widths, depths, resampling, skips and the residual to the
input are ours, after RSEN (Fu et al., arXiv 2006.00757).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from autoderain_jax.blocks import RSEB, Downsample, Extent, Upsample, clear
from autoderain_jax.candidates import CANDIDATES, DEFAULT_CANDIDATES
from autoderain_jax.errors import InputError, shown
from autoderain_jax.search_space import SE_OPTIONS, Choices, Kernels, Rows, Supernet

MOST_CHANNELS = 4096
"""At full resolution. Like the two below far beyond any use, but small enough to refuse a file before much happens."""
MOST_LEVELS = 10
MOST_BLOCKS = 1000
"""On all levels."""


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network.

    Attributes:
      width: channels at full resolution; each level below has twice as many.
      blocks: RSEBs per level, from full resolution down; the last is the bottleneck, the others count for the
        encoder and again for the decoder.
      candidates: types of convolution that the search chooses among.
      reduction: the factor by which squeeze-and-excitation narrows its hidden layer.
      dtype: precision of the computation, float32 or bfloat16; weights are float32.
    """

    width: int = 24
    blocks: tuple[int, ...] = (1, 1, 2)
    candidates: tuple[str, ...] = DEFAULT_CANDIDATES
    reduction: int = 4
    dtype: str = "float32"

    def check(self, source: str, decided: bool = False) -> None:
        """Raises ``InputError`` naming ``source`` and the first field whose value makes no sense.

        Args:
          source: of the configuration.
          decided: whether a genotype says which candidates it uses, of which the others need not be known.
        """
        for name in ("width", "reduction"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise InputError(f"{source}.{name} must be a positive integer, not {shown(getattr(self, name))}")
        if self.width > MOST_CHANNELS:
            raise InputError(f"{source}.width must be at most {MOST_CHANNELS}, not {shown(self.width)}")
        counts = self.blocks if isinstance(self.blocks, tuple) else ()
        if not counts or any(type(count) is not int or count < 1 for count in counts):
            raise InputError(f"{source}.blocks needs positive integers, one per level, not {shown(self.blocks)}")
        if len(counts) > MOST_LEVELS or sum(counts) > MOST_BLOCKS:
            raise InputError(f"{source}.blocks has more than {MOST_LEVELS} levels or {MOST_BLOCKS} blocks")
        if self.dtype not in ("float32", "bfloat16"):
            raise InputError(f"{source}.dtype must be float32 or bfloat16, not {shown(self.dtype)}")
        names = self.candidates if isinstance(self.candidates, tuple) else ()
        for name in names:
            if name not in tuple(CANDIDATES) and not (decided and isinstance(name, str)):
                known = ", ".join(CANDIDATES)
                raise InputError(
                    f"{source}.candidates: unknown candidate {shown(name)}; known are {known}; "
                    "one of your own needs --imports MODULE"
                )
        if len(set(names)) != len(names) or len(names) < 2:
            raise InputError(f"{source}.candidates needs at least two different ones")

    @classmethod
    def from_json(cls, content: Any, source: str, decided: bool = False) -> NetworkConfig:
        """Reads and checks, as ``check`` does, what ``dataclasses.asdict`` gives, after JSON."""
        try:
            config = cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in content.items()})
        except (TypeError, AttributeError):
            raise InputError(f"{source}: the network needs just the fields of NetworkConfig") from None
        config.check(f"{source}, network", decided)
        return config

    @property
    def stride(self) -> int:
        """Height and width are padded to multiples of this many pixels inside the network."""
        return 2 ** (len(self.blocks) - 1)

    def block_names(self) -> dict[str, int]:
        """Name of every RSEB, in the order of computation, with its level."""
        levels = range(len(self.blocks) - 1)
        names = {f"encoder{level}_block{i}": level for level in levels for i in range(self.blocks[level])}
        names |= {f"bottleneck_block{i}": len(levels) for i in range(self.blocks[-1])}
        decoder = {f"decoder{level}_block{i}": level for level in reversed(levels) for i in range(self.blocks[level])}
        return names | decoder


def open_choices(config: NetworkConfig) -> Choices:
    """The supernet's choices: in every RSEB, two convolutions of any candidate type, and SE off or on."""
    rows = {"conv_a": config.candidates, "conv_b": config.candidates, "se": SE_OPTIONS}
    return {block: dict(rows) for block in config.block_names()}


class DerainNet(nn.Module):
    """``rainy + head(decoder(encoder(stem(rainy))))``.

    Attributes:
      config: shape of the network.
      choices: options left in every RSEB; ``open_choices(config)`` for the supernet, a genotype's for a derived
        network.
      pool_window: side in pixels of the window that squeeze-and-excitation pools over; None, as in training, pools
        the whole input.
      supernet: how open choices keep their weights and run.
      remat: in the backward pass, compute the inside of every RSEB anew instead of keeping it.
    """

    config: NetworkConfig
    choices: Mapping[str, Mapping[str, tuple[str, ...]]]
    pool_window: int | None = None
    supernet: Supernet = Supernet()
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        rainy: jax.Array,
        gates: Rows | None = None,
        kernels: Kernels | None = None,
        extent: Extent | None = None,
    ) -> jax.Array:
        """Removes rain.

        Args:
          rainy: (b, h, w, 3) in [0, 1], of any height and width.
          gates: one row per open choice; None if all are decided.
          kernels: of open choices, what gates make of their shared kernels, if that was done before: these need then
            not be among the parameters.
          extent: what of ``rainy`` is image, if it is not all; sides are multiples of ``config.stride``, and zeros are
            outside. What is restored there is not specified. Needs choices that are linear.

        Returns:
          Restored images of the same shape, float32, not clipped.
        """
        height, width = rainy.shape[1:3]
        pad = [(0, -size % self.config.stride) for size in (height, width)]
        padded = jnp.pad(rainy, ((0, 0), *pad, (0, 0)), "reflect")
        x = nn.Conv(self.config.width, (3, 3), dtype=self.config.dtype, name="stem")(padded)
        x = self.body(clear(x, extent), gates or {}, kernels or {}, extent)
        # A zero head makes the untrained network the identity, so that training starts from the rainy image.
        x = nn.Conv(3, (3, 3), dtype=self.config.dtype, name="head", kernel_init=nn.initializers.zeros_init())(x)
        return rainy + x[:, :height, :width].astype(jnp.float32)

    def body(self, x: jax.Array, gates: Rows, kernels: Kernels, extent: Extent | None) -> jax.Array:
        """Encoder, bottleneck and decoder: (b, h, w, width) to the same shape."""
        extents = [extent and extent.at(level) for level in range(len(self.config.blocks))]
        *levels, bottleneck = self.config.blocks
        skips = []
        for level, blocks in enumerate(levels):
            x = self.rsebs(x, gates, kernels, f"encoder{level}", blocks, level, extents[level])
            skips.append(x)
            x = clear(Downsample(2 * x.shape[-1], name=f"down{level}")(x), extents[level + 1])
        x = self.rsebs(x, gates, kernels, "bottleneck", bottleneck, len(levels), extents[-1])
        for level, blocks in reversed(list(enumerate(levels))):
            x = Upsample(x.shape[-1] // 2, name=f"up{level}")(x)
            x = jnp.concatenate([x, skips[level]], -1)
            x = clear(nn.Dense(x.shape[-1] // 2, dtype=x.dtype, name=f"skip{level}")(x), extents[level])
            x = self.rsebs(x, gates, kernels, f"decoder{level}", blocks, level, extents[level])
        return x

    def rsebs(
        self, x: jax.Array, gates: Rows, kernels: Kernels, stage: str, blocks: int, level: int, extent: Extent | None
    ) -> jax.Array:
        """A run of RSEBs at one resolution."""
        window = self.pool_window and max(self.pool_window >> level, 1)
        rseb = nn.remat(RSEB) if self.remat else RSEB
        for i in range(blocks):
            name = f"{stage}_block{i}"
            block = rseb(self.choices[name], self.config.reduction, window, self.supernet, name=name)
            x = block(x, gates.get(name), kernels.get(name), extent)
        return x
