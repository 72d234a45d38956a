"""``report.html``: one self-contained page on a run, with nothing to load."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from PIL import Image

from autoderain_jax.cost import relative_cost
from autoderain_jax.derainer import Derainer
from autoderain_jax.genotype import Genotype, one_hot_gates, search_space_size
from autoderain_jax.metrics import score
from autoderain_jax.network import open_choices
from autoderain_jax.search_space import Rows
from data_pipelines import Pairs
from experiments import agreement, figures
from experiments.config import RetrainConfig, SearchConfig, SearchesConfig, TrainingConfig
from experiments.workdir import Workdir

PICTURES = 3
"""Images shown."""
LARGEST = 480
"""Pictures are shown cropped about their centre to this many pixels; scores are of all of them."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem } svg, img { max-width: 100%; height: auto }
table { border-collapse: collapse } td { padding: .15rem 1rem .15rem 0; vertical-align: top }
figure { margin: 1.5rem 0 } figcaption, .note { color: #666; font-size: .9rem } pre { overflow: auto }
.scroll { overflow-x: auto }
"""


def write_search_report(
    workdir: Workdir,
    config: SearchConfig,
    genotype: Genotype,
    derainer: Derainer,
    held_out: Pairs,
    prices: Rows,
    problems: list[str],
) -> None:
    """Writes the report of a finished search.

    Args:
      workdir: the run; its metrics file is read and ``report.html`` written.
      config: the run's configuration.
      genotype: what was found.
      derainer: the found network with the supernet's weights.
      held_out: images to show it on.
      prices: of all options.
      problems: what ``health.warnings`` found.
    """
    records = workdir.records()
    gates = one_hot_gates(open_choices(config.network), genotype)
    share = float(relative_cost(gates, prices))
    # A float cannot hold it where there are many choices.
    space = f"{Decimal(search_space_size(config.network)):.3g}"
    binary = 0 < config.relaxed_steps < records[-1]["step"]
    sections = [
        (
            "Losses",
            figures.curves(
                records,
                ("train_loss", "held_out_loss", "cost"),
                config.loss,
                mark=(config.relaxed_steps, "binary gates") if binary else None,
            ),
        ),
        (
            "The network found",
            f"<p>One of {space} architectures; its choices cost {share:.0%} of the "
            f"dearest ones' ({config.cost}).</p>"
            f'<div class="scroll">{figures.network_drawing(genotype, config.network)}</div>'
            f"<details><summary>genotype.json</summary><pre>{html.escape(genotype.to_json())}</pre></details>",
        ),
    ]
    if "alphas" in records[-1]:
        sections += [
            ("Health", _health(records, problems)),
            ("Architecture parameters over time", figures.alphas_heat_map(records, config.network)),
        ]
    sections.append(
        (
            "On held-out images",
            '<p class="note">With the weights it has from the search; retraining improves on them. '
            "These images chose the architecture.</p>" + _pictures(derainer, held_out),
        )
    )
    _write(workdir, "Search", config, sections)


def write_retrain_report(workdir: Workdir, config: RetrainConfig, derainer: Derainer, held_out: Pairs) -> None:
    """Writes the report of a finished retraining; arguments as in ``write_search_report``."""
    records = workdir.records()
    sections = [
        ("Loss", figures.curves(records, ("train_loss",), config.loss)),
        ("Held-out PSNR", figures.curves(records, ("held_out_psnr",), "dB (y-matlab)")),
        (
            "The network",
            f"<p>{derainer.model.parameters:,} parameters.</p>"
            f'<div class="scroll">{figures.network_drawing(derainer.model.genotype, config.network)}</div>',
        ),
        ("On held-out images", _pictures(derainer, held_out)),
    ]
    _write(workdir, "Retraining", config, sections)


def write_searches_report(
    workdir: Workdir, config: SearchesConfig, rows: Sequence[agreement.Row], genotypes: Sequence[Genotype]
) -> None:
    """Writes the report of several searches: ``report.html`` in the folder that holds theirs."""
    _write(workdir, f"{len(rows)} searches", config, agreement.sections(rows, genotypes, config.network))


def _health(records: figures.Records, problems: list[str]) -> str:
    """What the search's measures are and were, and what they mean."""
    verdict = problems or ["Nothing to complain of: choices are spread, moved, and settled."]
    shares = tuple(name for name in records[-1] if name.startswith("share/"))
    return (
        "".join(f"<p>{html.escape(sentence)}</p>" for sentence in verdict)
        + figures.curves(records, ("entropy", "flips"), "entropy, flips per choice")
        + '<p class="note">Entropy: 1 where all options of a choice are equal, 0 where one has it all. Flips: the '
        "share of the choices whose leading option changes in a step.</p>" + figures.curves(records, shares, "led by")
    )


def _pictures(derainer: Derainer, pairs: Pairs) -> str:
    """Rainy, restored and clean side by side, for images spread over the set."""
    parts = []
    for index in np.unique(np.linspace(0, len(pairs) - 1, PICTURES).round().astype(int)):
        rainy, clean = pairs.rainy_clean(int(index))
        restored = derainer(rainy)
        before, after = (score(image, clean, ("y-matlab",))["y-matlab"] for image in (rainy, restored))
        caption = (
            f"{html.escape(pairs[int(index)].name)}: rainy {before['psnr']:.2f} dB, restored {after['psnr']:.2f} dB "
            "(y-matlab), clean"
        )
        picture = _inline(figures.mosaic([_centre(image) for image in (rainy, restored, clean)]))
        parts.append(f'<figure><img alt="{caption}" src="{picture}"><figcaption>{caption}</figcaption></figure>')
    return "".join(parts)


def _centre(image: np.ndarray) -> np.ndarray:
    top, left = (max(size - LARGEST, 0) // 2 for size in image.shape[:2])
    return np.ascontiguousarray(image[top : top + LARGEST, left : left + LARGEST])


def _inline(image: np.ndarray) -> str:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()


def _write(workdir: Workdir, kind: str, config: TrainingConfig, sections: list[tuple[str, str]]) -> None:
    options = json.loads((workdir.folder / "config.json").read_text())
    options = {name: value for name, value in options.items() if name not in ("blocks", "images")}
    if isinstance(config, SearchesConfig):
        options["seeds"] = config.seeds
        if config.cost_weights:
            del options["cost_weight"]
            options["cost_weights"] = config.cost_weights
    records = workdir.records()
    early = f"{records[-1]['step']} of " if records and records[-1]["step"] < config.steps else ""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(json.dumps(value))}</td></tr>"
        for name, value in options.items()
    )
    body = "".join(f"<section><h2>{title}</h2>{content}</section>" for title, content in sections)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{kind}: {html.escape(config.preset)}</title><style>{STYLE}</style><h1>{kind}</h1>"
        f"<p>Preset <b>{html.escape(config.preset)}</b>, data <b>{html.escape(config.data)}</b>, "
        f"seed {config.seed}, {early}{config.steps} steps.</p>"
        f"{body}<section><h2>Configuration</h2><table>{rows}</table></section></html>\n"
    )
    # Names of images need not be UTF-8.
    (workdir.folder / "report.html").write_text(page, encoding="utf-8", errors="backslashreplace")
