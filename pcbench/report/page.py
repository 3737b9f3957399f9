"""One self-contained HTML page about some results: leaderboard, curves, heat map, provenance. No network to read it."""

import base64
import json
from collections.abc import Collection
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pcbench import __version__
from pcbench.analysis.answers import every
from pcbench.analysis.compare import compare
from pcbench.analysis.comparison import OVERALL, once_each
from pcbench.analysis.derived import tables
from pcbench.analysis.means import accuracy as mean_accuracy
from pcbench.analysis.speed import speed_of
from pcbench.analysis.wording import verdicts
from pcbench.errors import UserError, one_line
from pcbench.report.attacks import apart, judged_at, stories
from pcbench.report.examples import Card, cards
from pcbench.results.study import Placed, Study

Floats = npt.NDArray[np.floating[Any]]

# Tables that are made from cells: file -> title. Others are called by their file.
_TITLES = {
    "robust-accuracy": "Robust accuracy of each attack, and of the worst case over attacks, image by image",
    "terms": "Share of each term in the update (root mean square, relative to the representation's)",
    "cost": "Multiply-accumulates of one image up to each timestep (1e9)",
}
_MOST_ROWS = 200
_CHARTS = "plotly-cartesian-4.1.1.min.js.gz"


def page(study: Study) -> str:
    """The report as HTML.

    Args:
        study: what it is about.

    Returns:
        The page; scripts, styles and data are inside it.
    """
    from jinja2 import Environment, PackageLoader, select_autoescape

    environment = Environment(loader=PackageLoader("pcbench.report"), autoescape=select_autoescape())
    speeds = speed(study)
    template = environment.get_template("report.html")
    assets = files("pcbench.report") / "templates"
    parts: dict[str, Any] = {
        "data": _safe_json(points(study)),
        "speed_data": _safe_json(speeds),
        "speeds": speeds.to_dict("records"),
        "findings": findings(study),
        "examples": _by_suite(study),
        "provenance": [provenance(study, placed) for placed in study.requests],
        "attacks": stories(study),
        "extras": extra_tables(study),
    }
    return template.render(
        version=__version__,
        plotly=charts(),
        script=(assets / "report.js").read_text(encoding="utf-8"),
        css=(assets / "report.css").read_text(encoding="utf-8"),
        problems=study.problems,
        **parts,
    )


def charts() -> str:
    """The library that draws the charts, as base64 of gzip, which browsers unpack."""
    return base64.b64encode((files("pcbench.report") / "vendor" / _CHARTS).read_bytes()).decode()


def findings(study: Study) -> dict[str, list[str]]:
    """Suite -> its plain answers, as `pcbench compare` words them. Attacks have a story of their own."""
    found: dict[str, list[str]] = {}
    try:
        asked = compare(study, despite=["incomplete"])
    except UserError:  # one model without dynamics: nothing was asked
        return {}
    for each in asked.questions:
        if "attack" not in set(each.table["group"]):
            found.setdefault(each.suite, []).extend(verdicts(each))
    if asked.notes and found:
        found["What a reader must know"] = asked.notes
    return found


def _by_suite(study: Study) -> dict[str, list[Card]]:
    """Title -> examples."""
    found: dict[str, list[Card]] = {}
    for card in cards(study):
        found.setdefault(f"{card.data}, suite {card.suite}", []).append(card)
    return found


def speed(study: Study) -> pd.DataFrame:
    """`speed_of` of the study, accuracy in percent."""
    table = speed_of(study)
    return table.assign(accuracy=100 * table["accuracy"].astype(float))


def _safe_json(table: pd.DataFrame) -> str:
    """JSON that can stand inside a script element, whatever the names in it."""
    text = json.dumps(json.loads(table.to_json(orient="records", double_precision=4)))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def points(study: Study) -> pd.DataFrame:
    """A row for each suite, system, perturbation ("all": their mean) and timestep.

    A mean over attacks says nothing: a suite with attacks has the worst case over those of each radius in its place,
    at the timesteps that were attacked.

    Returns:
        Columns suite, data, model (label and weights), perturbation, timestep, accuracy, low, high (percent), n.
        Intervals: Wilson's, of several severities of the effective number of images.
    """
    rows: list[tuple[object, ...]] = []
    for suite, systems_of in every(study).items():
        for found in systems_of:
            answers = apart(found)
            n, names, judged = answers.values.shape[1], answers.perturbations(), judged_at(found)
            start = (suite, answers.system.data.name, answers.full)

            def add(name: str, accuracy: Floats, low: Floats, high: Floats, steps: Collection[int]) -> None:
                rows.extend(
                    (*start, name, t, *(100 * float(x) for x in (accuracy[i], low[i], high[i])), n)  # noqa: B023
                    for i, t in enumerate(answers.timesteps)  # noqa: B023
                    if t in steps
                )

            for name in names:
                found_here = mean_accuracy(answers.of(name).astype(bool).transpose(0, 2, 1))
                add(name, found_here.value, found_here.low, found_here.high, judged.get(name, answers.timesteps))
            if len(names) > 1 and "attack" not in set(answers.conditions["group"]):
                of_all = mean_accuracy(answers.values.astype(bool).transpose(0, 2, 1), once_each(answers))
                add(OVERALL, of_all.value, of_all.low, of_all.high, answers.timesteps)
    columns = ["suite", "data", "model", "perturbation", "timestep", "accuracy", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def provenance(study: Study, placed: Placed) -> dict[str, object]:
    """What a reader needs to make a request again, and the code and devices that its cells were computed with."""
    request = placed.request
    there = {cell.key.digest: cell for cell in study.cells}
    cells = [there[digest] for digest in request.cells if digest in there]

    def of_cells(*names: str) -> str:
        found: dict[str, None] = {}
        for cell in cells:
            value: object = cell.provenance
            for name in names:
                value = value.get(name) if isinstance(value, dict) else None
            found[one_line(str(value if value is not None else "unknown"))] = None
        return "; ".join(found) or "unknown"

    packages = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in found.items())
        for cell in cells
        if isinstance(found := cell.provenance.get("packages"), dict)
    )
    return {
        "name": f"{', '.join(suite.name for suite in request.suites)}: {', '.join(request.models)}",
        "status": study.status_of(placed),
        "missing": len(request.cells) - len(cells),
        "asked": ", ".join(f"{name} = {value}" for name, value in request.asked.items()),
        "models": ", ".join(request.models),
        "data": request.data,
        "skipped": len(request.skipped),
        "suites": ", ".join(f"{suite.name} {suite.version}" for suite in request.suites),
        "device": of_cells("device"),
        "commit": of_cells("git", "commit"),
        "dirty": any(bool(git.get("dirty")) for cell in cells if isinstance(git := cell.provenance.get("git"), dict)),
        "packages": "; ".join(packages),
        "created": request.created,
        "finished": request.finished or "not yet",
        "notices": request.notices,
    }


def extra_tables(study: Study) -> list[dict[str, object]]:
    """Tables that are made from the cells besides accuracies, such as shares of terms."""
    found: list[dict[str, object]] = []
    for name, table in tables(study).items():
        if name in ("accuracy.csv", "evidence.csv"):  # the page tells them in other ways
            continue
        found.append(
            {
                "title": _TITLES.get(name.removesuffix(".csv"), name),
                "columns": list(table.columns),
                "rows": [[_shown(value) for value in row] for row in table.head(_MOST_ROWS).to_numpy(dtype=object)],
                "left_out": max(0, len(table) - _MOST_ROWS),
            }
        )
    return found


def _shown(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return str(value)
