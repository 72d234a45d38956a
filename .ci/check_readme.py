"""Checks README, docs and model cards: every relative link leads somewhere, and every command has its options."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

root = Path(__file__).parent.parent
problems, links, commands = [], [], []
pages = [path for folder in ("docs", "autoderain_jax") for path in sorted((root / folder).rglob("*.md"))]
for page in (root / "README.md", *pages):
    text = page.read_text()
    found = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)|(?:src|href)=\"([^\"#:]+)\"", text)
    links += found
    for link in {first or second for first, second in found}:
        if not (page.parent / link).exists():
            problems.append(f"{page.name} links to {link}: no such file")
    commands += re.findall(r"python -m (experiments\.\w+|data_pipelines\.\w+)((?:\\\n|[^\n`])*)", text)

helps = {}
for module, rest in commands:
    words = shlex.split(rest.replace("\\\n", " "), comments=True)
    # The benchmarks have options of their own.
    name = (module, *words[:1]) if module == "experiments.benchmark" else (module,)
    if name not in helps:
        shown = subprocess.run([sys.executable, "-m", *name, "--help"], capture_output=True, text=True, check=False)
        helps[name] = shown.stdout if shown.returncode == 0 else None
    if helps[name] is None:
        problems.append(f"python -m {' '.join(name)} --help fails")
        continue
    for word in words:
        if word.startswith("--") and not re.search(rf"{word}(?![\w-])", helps[name]):
            problems.append(f"python -m {' '.join(name)} has no option {word}")

if not links or not commands:
    problems.append("found no links or no commands to check")
print("\n".join(problems) or f"README, docs and cards: {len(links)} links and {len(commands)} commands checked")
sys.exit(bool(problems))
