"""Checks that every relative link in the README leads somewhere, and that every command in it has its options."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

root = Path(__file__).parent.parent
readme = (root / "README.md").read_text()
problems = []

links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)|(?:src|href)=\"([^\"#:]+)\"", readme)
for link in {first or second for first, second in links}:
    if not (root / link).exists():
        problems.append(f"link to {link}: no such file")

commands = re.findall(r"python -m (experiments\.\w+|data_pipelines\.\w+)([^\n`]*(?:\\\n[^\n`]*)*)", readme)
helps = {}
for module, rest in commands:
    if module not in helps:
        shown = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=False)
        helps[module] = shown.stdout if shown.returncode == 0 else None
    if helps[module] is None:
        problems.append(f"python -m {module} --help fails")
        continue
    for word in shlex.split(rest.replace("\\\n", " "), comments=True):
        if word.startswith("--") and word not in helps[module]:
            problems.append(f"python -m {module} has no option {word}")

if not links or not commands:
    problems.append("found no links or no commands to check")
print("\n".join(problems) or f"README: {len(links)} links and {len(commands)} commands checked")
sys.exit(bool(problems))
