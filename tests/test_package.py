"""What the installed package promises: quiet, quick, typed, and with its dependencies declared."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HEAVY = {"torch", "numpy", "pandas", "scipy", "matplotlib", "pyarrow", "rich", "pydantic", "PIL", "cv2", "timm"}
BEHIND_AN_ENGINE = {"ray"}  # imported by the modules of `--engine ray`, which ask for it first


def name_of(requirement: str) -> str:
    """The distribution that a requirement is about."""
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_importing_warns_of_nothing() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", "import pcbench"], capture_output=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from pcbench.cli.app import _run; _run(['--help'], False); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not loaded & HEAVY


def test_types_ship() -> None:
    assert (ROOT / "pcbench" / "py.typed").exists()


def test_what_is_imported_is_required_or_named_by_its_extra() -> None:
    homes = packages_distributions()
    required = {name_of(requirement) for requirement in PROJECT["dependencies"]}
    required |= {"opencv-python"} if "opencv-python-headless" in required else set()  # the same module
    found: dict[str, str] = {}
    for file in sorted((ROOT / "pcbench").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top != "pcbench":
                    found.setdefault(top, str(file.relative_to(ROOT)))
    undeclared = {
        top: place
        for top, place in found.items()
        if top not in BEHIND_AN_ENGINE and not {name_of(home) for home in homes.get(top, [top])} & required
    }
    assert not undeclared


def test_every_extra_that_an_error_names_exists() -> None:
    sources = [
        path.read_text(encoding="utf-8") for path in (ROOT / "pcbench").rglob("*") if path.suffix in (".py", ".md")
    ]
    extras = {extra for text in sources for extra in re.findall(r"pcbench\[([a-z,]+)\]", text)}
    extras |= {extra for text in sources for extra in re.findall(r"require\(\"[\w.]+\", \"([a-z]+)\"\)", text)}
    extras.discard("none")
    assert {"attacks", "ray", "reference", "samples"} & extras
    assert extras <= set(PROJECT["optional-dependencies"])
