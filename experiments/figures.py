"""Figures of a run as SVG text: curves, the alphas over time, and the found network."""

from __future__ import annotations

import io
import itertools
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image, ImageDraw

from autoderain_jax.genotype import Genotype
from autoderain_jax.network import NetworkConfig, open_choices

Records = list[dict[str, Any]]

COLOURS = {
    "conv3x3": "#4c9be8",
    "conv5x5": "#1f4e8c",
    "dilated3x3": "#8e6bbf",
    "separable3x3": "#58b368",
    "separable_dilated3x3": "#a7c957",
    "conv5x1": "#e59d4f",
}
"""Colour of each type of convolution in drawings."""


def curves(records: Records, names: tuple[str, ...], ylabel: str, mark: tuple[float, str] | None = None) -> str:
    """Lines over steps, one per metric that occurs; ``mark`` is a step with a label."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    for name in names:
        points = [(record["step"], record[name]) for record in records if name in record]
        if points:
            axes.plot(*zip(*points, strict=True), label=name.replace("_", " "), marker="." if len(points) < 20 else "")
    if mark:
        axes.axvline(mark[0], color="grey", linestyle=":")
        axes.annotate(mark[1], (mark[0], 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", color="grey")
    axes.set(xlabel="step", ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.legend()
    return svg(figure)


def scatter(points: list[tuple[float, float, float]]) -> str:
    """Found networks as points: multiply-accumulates per pixel, PSNR in dB, cost weight."""
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    for weight in dict.fromkeys(weight for *_, weight in points):
        mine = [(macs, psnr) for macs, psnr, at in points if at == weight]
        axes.plot(*zip(*mine, strict=True), "o", label=f"cost weight {weight:g}")
    axes.set(xlabel="multiply-accumulates per pixel", ylabel="held-out PSNR, dB (y-matlab)")
    axes.grid(alpha=0.3)
    axes.legend()
    return svg(figure)


def alphas_heat_map(records: Records, config: NetworkConfig) -> str:
    """Every alpha over the steps of the search; rows are options, grouped by choice."""
    steps = [record["step"] for record in records if "alphas" in record]
    values = [record["alphas"] for record in records if "alphas" in record]
    names, columns, ends = [], [], []
    for block, choices in open_choices(config).items():
        for choice, options in choices.items():
            for i, option in enumerate(options):
                names.append(f"{block}  {choice}  {option}" if i == 0 else option)
                columns.append([alphas[block][choice][i] for alphas in values])
            ends.append(len(names) - 0.5)
    figure = Figure(figsize=(9, 1.2 + 0.16 * len(names)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        columns, aspect="auto", vmin=0, vmax=1, cmap="viridis", extent=(0, steps[-1], len(names) - 0.5, -0.5)
    )
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.hlines(ends[:-1], 0, steps[-1], color="white", linewidth=1)
    axes.set_xlabel("step")
    figure.colorbar(image, ax=axes, label="alpha", shrink=min(1.0, 6 / len(names) ** 0.5))
    return svg(figure)


def network_drawing(genotype: Genotype, config: NetworkConfig) -> str:
    """The found network: a U of RSEBs, each with its two convolutions and its SE."""
    levels = config.block_names()
    figure = Figure(figsize=(max(6.0, 1.25 * len(levels)), 1.2 + 1.3 * len(config.blocks)), layout="constrained")
    axes = figure.subplots()
    for x, (block, level) in enumerate(levels.items()):
        row = genotype.blocks[block]
        _box(axes, x, -level - 0.02, row["conv_a"])
        _box(axes, x, -level - 0.29, row["conv_b"])
        axes.text(x, -level - 0.50, f"SE {row['se']}", ha="center", fontsize=7)
        axes.text(x, -level + 0.25, block.replace("_", "\n", 1), ha="center", fontsize=6, color="grey")
    places = list(enumerate(levels.values()))
    for (x, level), (_, following) in itertools.pairwise(places):
        axes.annotate(
            "",
            (x + 0.55, -following - 0.15),
            (x + 0.45, -level - 0.15),
            arrowprops={"arrowstyle": "->", "color": "grey"},
        )
    for level in range(len(config.blocks) - 1):
        columns = [x for x, at in places if at == level]
        encoder, decoder = columns[config.blocks[level] - 1 : config.blocks[level] + 1]
        axes.plot([encoder + 0.5, decoder - 0.5], [-level - 0.15] * 2, ":", color="grey")
    axes.set(xlim=(-0.6, len(levels) - 0.4), ylim=(-len(config.blocks) + 0.35, 0.55))
    axes.axis("off")
    return svg(figure)


def _box(axes, x: float, y: float, option: str) -> None:
    box = FancyBboxPatch((x - 0.42, y - 0.1), 0.84, 0.2, boxstyle="round,pad=0.02", color=COLOURS.get(option, "grey"))
    axes.add_patch(box)
    axes.text(x, y, option.replace("_", "\n", 1), ha="center", va="center", fontsize=5.5, color="white")


def svg(figure: Figure) -> str:
    """The figure as an SVG element, without the prologue of a file; the same input gives the same text."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "autoderain", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    whole = text.getvalue()
    return whole[whole.index("<svg") :]


def mosaic(images: list[np.ndarray], gap: int = 4) -> np.ndarray:
    """Images of one height side by side on white, uint8 RGB."""
    spacer = np.full((images[0].shape[0], gap, 3), 255, np.uint8)
    parts = [part for image in images for part in (image, spacer)]
    return np.concatenate(parts[:-1], 1)


def contact_sheet(strips: list[tuple[str, list[np.ndarray]]], width: int) -> Image.Image:
    """Strips of images of one height, each under its label and as wide as told, in pixels, below one another."""
    line = 20
    pictures = [Image.fromarray(mosaic(images)) for _, images in strips]
    pictures = [picture.resize((width, max(1, round(picture.height * width / picture.width)))) for picture in pictures]
    sheet = Image.new("RGB", (width, sum(picture.height + line for picture in pictures)), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for (label, _), picture in zip(strips, pictures, strict=True):
        draw.text((4, top + 4), label, "black")
        sheet.paste(picture, (0, top + line))
        top += picture.height + line
    return sheet
