"""One self-contained HTML page about some runs: leaderboard, curves, heat map, provenance. No network to read it."""

import base64
import gzip
import json
from collections.abc import Sequence
from importlib.resources import files
from shlex import join

import pandas as pd

from pcbench import __version__
from pcbench.analysis.comparison import OVERALL, systems
from pcbench.analysis.runs import compare, named_answers, names_of
from pcbench.analysis.speed import speed_of
from pcbench.analysis.statistics import interval, wilson
from pcbench.errors import UserError
from pcbench.report.attacks import apart, judged_at, stories
from pcbench.report.examples import Card, cards
from pcbench.report.tables import verdicts
from pcbench.results.load import Run

# Tables that a run may have beside its records: file -> title. Others are called by their file.
_TITLES = {
    "robust-accuracy": "Robust accuracy of each attack, and of the worst case over attacks, image by image",
    "terms": "Share of each term in the update (root mean square, relative to the representation's)",
    "cost": "Multiply-accumulates of one image up to each timestep (1e9)",
}
_MOST_ROWS = 200


def page(runs: Sequence[Run], problems: Sequence[str] = ()) -> str:
    """The report as HTML.

    Args:
        runs: what it is about.
        problems: lines about what could not be read.

    Returns:
        The page; scripts, styles and data are inside it.
    """
    from jinja2 import Environment, PackageLoader, select_autoescape
    from plotly.offline import get_plotlyjs

    environment = Environment(loader=PackageLoader("pcbench.report"), autoescape=select_autoescape())
    speeds, names = speed(runs), names_of(runs)
    template = environment.get_template("report.html")
    assets = files("pcbench.report") / "templates"
    return template.render(
        version=__version__,
        plotly=_packed(get_plotlyjs()),
        script=(assets / "report.js").read_text(),
        css=(assets / "report.css").read_text(),
        data=_safe_json(points(runs)),
        speed_data=_safe_json(speeds),
        speeds=speeds.to_dict("records"),
        findings=findings(runs),
        examples=_by_suite(runs),
        provenance=[provenance(run, names[run.directory]) for run in runs],
        attacks=[story for run in runs for story in stories(run, names[run.directory])],
        extras=[each for run in runs for each in extra_tables(run, names[run.directory])],
        problems=[*problems, *(problem for run in runs for problem in run.problems)],
    )


def _packed(script: str) -> str:
    """A script as base64 of gzip, which browsers unpack: less than half of its size."""
    return base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode()


def findings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Name of a run -> its plain answers, as `pcbench compare` words them. Attacks have a story of their own."""
    found, names = {}, names_of(runs)
    for run in runs:
        try:
            asked = compare([run])
        except UserError:  # one model without dynamics: nothing was asked
            continue
        lines = [line for each in asked if "attack" not in set(each.table["group"]) for line in verdicts(each)]
        if lines:
            found[names[run.directory]] = lines
    return found


def _by_suite(runs: Sequence[Run]) -> dict[str, list[Card]]:
    """Title -> examples."""
    found: dict[str, list[Card]] = {}
    names = names_of(runs)
    for run in runs:
        for card in cards(run):
            found.setdefault(f"{names[run.directory]}, suite {card.suite}", []).append(card)
    return found


def speed(runs: Sequence[Run]) -> pd.DataFrame:
    """`speed_of` of the runs together, accuracy in percent, with the data's name."""
    tables = [speed_of(run).assign(data=run.info.data.name) for run in runs if not run.records.empty]
    found = [table for table in tables if not table.empty]
    if not found:
        return pd.DataFrame(columns=["suite", "model", "timestep", "accuracy", "gmacs", "images_per_second", "data"])
    together = pd.concat(found, ignore_index=True)
    return together.assign(accuracy=100 * together["accuracy"])


def _safe_json(table: pd.DataFrame) -> str:
    """JSON that can stand inside a script element, whatever the names in it."""
    text = json.dumps(json.loads(table.to_json(orient="records", double_precision=4)))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def points(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each suite, model, perturbation ("all": their mean) and timestep.

    A mean over attacks says nothing: a suite with attacks has the worst case over those of each radius in its place,
    at the timesteps that were attacked.

    Returns:
        Columns suite, data, model, perturbation, timestep, accuracy, low, high (percent), n. Intervals: Wilson's where
        there is one severity, else bootstrap over images.
    """
    rows = []
    for suite, named in named_answers(runs).items():
        for label, found in named:
            answers = apart(found)
            system = systems([(label, answers)])[0]
            n, names, judged = len(answers.images), answers.perturbations(), judged_at(found)
            for index, name in enumerate(names):
                low, high = interval(system.replicates[:, index])
                values = answers.of(name)
                if len(values) == 1:
                    low, high = wilson(values[0].sum(axis=0), n)
                accuracy = values.mean(axis=(0, 1))
                rows += [
                    (
                        suite,
                        answers.name[2],
                        label,
                        name,
                        t,
                        *(100 * float(x) for x in (accuracy[i], low[i], high[i])),
                        n,
                    )
                    for i, t in enumerate(answers.timesteps)
                    if t in judged.get(name, answers.timesteps)
                ]
            if len(names) > 1 and "attack" not in set(answers.conditions["group"]):
                low, high = interval(system.replicates.mean(axis=1))
                mean = answers.per_image().mean(axis=0)
                rows += [
                    (
                        suite,
                        answers.name[2],
                        label,
                        OVERALL,
                        t,
                        *(100 * float(x) for x in (mean[i], low[i], high[i])),
                        n,
                    )
                    for i, t in enumerate(answers.timesteps)
                ]
    columns = ["suite", "data", "model", "perturbation", "timestep", "accuracy", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def provenance(run: Run, name: str) -> dict[str, object]:
    """What a reader needs to make a run again."""
    info = run.info
    return {
        "name": name,
        "status": info.status,
        "missing": run.missing,
        "command": join(info.command),
        "models": ", ".join(f"{model.name} [{model.weights}]" for model in info.models),
        "data": f"{info.data.name}: {info.data.n} images, fingerprint {info.data.fingerprint[:12]}",
        "skipped": len(info.data.skipped),
        "suites": ", ".join(f"{suite.name} {suite.version}" for suite in info.suites),
        "seed": info.seed,
        "device": f"{info.device}, {info.dtype}",
        "commit": info.git.get("commit", "unknown"),
        "dirty": bool(info.git.get("dirty", False)),
        "packages": ", ".join(f"{name} {version}" for name, version in info.packages.items()),
        "created": info.created,
        "finished": info.finished or "not yet",
        "notices": info.notices,
    }


def extra_tables(run: Run, name: str) -> list[dict[str, object]]:
    """Tables that some runs have beside their records, such as shares of terms (terms.csv)."""
    found: list[dict[str, object]] = []
    for path in sorted(run.directory.glob("*.csv")):
        if path.name in ("accuracy.csv", "believability.csv"):  # the page tells them in other ways
            continue
        table = run.beside(path.name)
        if table is None:
            continue
        found.append(
            {
                "title": f"{name}: {_TITLES.get(path.stem, path.stem)}",
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
