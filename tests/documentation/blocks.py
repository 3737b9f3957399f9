"""The code blocks of the documentation, and a shell to run them in."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<comment>[^\n]*?) -->\n)?^(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^ *```$", re.M | re.S
)
_NAMED = re.compile(r"# (?P<name>[\w.-]+\.(?:py|toml))\n")
_RUN_BY_CI = ("main-job", "tests")  # README's two lines: .ci/run runs them as they are

# Whatever is documented is run on two images and one update: enough to see that it works.
SMALL = {
    "PCBENCH_RUN_LIMIT": "2",
    "PCBENCH_RUN_TIMESTEPS": "1",
    "PCBENCH_RUN_DEVICE": "cpu",
}


@dataclass(frozen=True)
class Block:
    """A fenced block: language, code, and the comment above it that says why it is not run, if there is one."""

    language: str
    code: str
    comment: str | None

    @property
    def runs(self) -> bool:
        """Whether the tests run it."""
        return self.comment not in _RUN_BY_CI and not (self.comment or "").startswith("not run: ")

    @property
    def file(self) -> str | None:
        """The name that its first line gives it: `# mymodel.py`."""
        match = _NAMED.match(self.code)
        return match["name"] if match else None


def blocks(page: Path) -> list[Block]:
    """The bash, Python and TOML blocks of a page."""
    found = []
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        if match["language"] in ("bash", "python", "toml"):
            lines = (line.removeprefix(match["indent"]) for line in match["code"].splitlines(keepends=True))
            found.append(Block(match["language"], "".join(lines), match["comment"]))
    return found


def environment(bin_folder: Path) -> dict[str, str]:
    """Of a shell in which `pcbench` is the code under test."""
    bin_folder.mkdir(exist_ok=True)
    command = bin_folder / "pcbench"
    command.write_text(f"#!{sys.executable}\nfrom pcbench.cli.app import main\nmain()\n")
    command.chmod(0o755)
    path = os.pathsep.join([str(bin_folder), os.environ.get("PATH", "")])
    return {**os.environ, **SMALL, "PATH": path, "PYTHONPATH": os.pathsep.join([str(ROOT), "."])}


def execute(page: Path, folder: Path, bin_folder: Path) -> None:
    """Run a page's blocks in order, in one folder; AssertionError with what was said when one fails."""
    shell = environment(bin_folder)
    for block in blocks(page):
        if block.file is not None:
            (folder / block.file).write_text(block.code)
        if not block.runs or block.language == "toml":
            continue
        command = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*command, block.code], cwd=folder, env=shell, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{page.name}:\n{block.code}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
