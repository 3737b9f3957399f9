"""Check somebody's results: tables against records, records against seals, keys against what is here, and reruns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pcbench.analysis.derived import tables, to_csv
from pcbench.config import RunConfig
from pcbench.errors import RunError, UserError
from pcbench.harness.choices import find_device
from pcbench.harness.images import Images
from pcbench.harness.local import Settings, evaluate
from pcbench.harness.plan import Cell as Planned
from pcbench.harness.plan import Plan, make_plan
from pcbench.harness.progress import silent
from pcbench.harness.width import images_for
from pcbench.keys import BadKeyError, CellKey, Condition, canonical, read_key
from pcbench.results.cell import Cell
from pcbench.results.disk import read_text
from pcbench.results.study import Placed, load_results
from pcbench.suites.registry import Suite

Verdict = Literal["ok", "differs", "cannot be checked"]
_MOST = 200_000_000  # bytes of a derived table
_BATCH = 32
_CONTENTS = {"model.checksum", "model.baseline.checksum", "data.fingerprint"}  # digests of what a key's names stand for


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        what: "accuracy.csv", "records", "key", "rerun".
        subject: which: a directory, or a cell.
        verdict: see there.
        why: in words; "" where nothing has to be said.
    """

    what: str
    subject: str
    verdict: Verdict
    why: str = ""


def verify(
    directory: Path, data: str | None = None, rerun: int = 0, say: Callable[[str], None] = lambda text: None
) -> Iterator[Finding]:
    """Check results, at any depth. Nothing is written there.

    Args:
        directory: of the results.
        data: where the images are; None for what the requests name, or what is at hand.
        rerun: how many cells to compute again, evenly over those that can be.
        say: is told what is going on.

    Yields:
        What was checked, as it is checked.

    Raises:
        UserError: no results there.
    """
    study = load_results(directory)
    for problem in study.problems:
        yield Finding("files", "", "differs", problem)
    for place in dict.fromkeys(cell.path.parent.parent for cell in study.cells):
        yield from _tables(place)
    for cell in study.cells:
        wrong = cell.verify()
        yield Finding("records", cell.path.name, "differs" if wrong else "ok", wrong)
    there = {cell.key.digest: cell for cell in study.cells}
    asked: set[str] = set()
    again: list[tuple[Plan, Images, dict[Planned, Cell]]] = []
    try:
        for placed in study.requests:
            asked |= set(placed.request.cells)
            say(f"looking for the models and images of {', '.join(placed.request.models)}")
            yield from _keys(placed, there, data, again)
        for cell in study.cells:
            if cell.key.digest not in asked:
                yield Finding("key", cell.path.name, "cannot be checked", "no request in run.json names it")
        if rerun:
            yield from _reruns(again, rerun, say)
    finally:
        for _, images, _ in again:
            images.close()


def _tables(directory: Path) -> Iterator[Finding]:
    """Every derived table, made again from the cells of its directory alone."""
    study = load_results(directory)
    study = replace(
        study,
        cells=tuple(cell for cell in study.cells if cell.path.parent.parent == directory),
        requests=tuple(placed for placed in study.requests if placed.directory == directory),
    )
    for name, table in tables(study).items():
        try:
            text = read_text(directory / name, _MOST)
        except FileNotFoundError:
            yield Finding(name, directory.name, "cannot be checked", "it is not there")
            continue
        except (OSError, UnicodeDecodeError) as error:
            yield Finding(name, directory.name, "differs", f"it cannot be read: {error}")
            continue
        why = _difference(text, to_csv(table).decode())
        yield Finding(name, directory.name, "differs" if why else "ok", why)


def _difference(there: str, made: str) -> str:
    """The first line in which a table differs from what its records say; "" for none."""
    if there == made:
        return ""
    old, new = there.splitlines(), made.splitlines()
    if sorted(old) == sorted(new):
        return ""  # the same rows, in another order
    for number, (one, two) in enumerate(zip(old, new, strict=False), start=1):
        if one != two:
            return f"line {number} says {one!r}; the records say {two!r}"
    return f"it has {len(old)} lines; the records make {len(new)}"


def _keys(
    placed: Placed,
    there: Mapping[str, Cell],
    data: str | None,
    again: list[tuple[Plan, Images, dict[Planned, Cell]]],
) -> Iterator[Finding]:
    """The cells of a request, against the models, suites and images that are here."""
    cells = [there[digest] for digest in placed.request.cells if digest in there]
    try:
        plan, images = _planned(placed, data)
    except (UserError, RunError) as error:
        for cell in cells:
            yield Finding("key", cell.path.name, "cannot be checked", str(error))
        return
    keys = {planned: plan.key(planned, images.key) for planned in plan.cells}
    by_digest = {key.digest: planned for planned, key in keys.items()}
    found: dict[Planned, Cell] = {}
    for cell in cells:
        planned = by_digest.get(cell.key.digest)
        if planned is not None:
            found[planned] = cell
            yield Finding("key", cell.path.name, "ok")
            continue
        apart = _apart(cell.key, list(keys.values()))
        why = "; ".join(list(apart.values())[:3]) or "nothing like it is planned here"
        # the same names, and other contents; what has another name, or other code, is another thing
        verdict: Verdict = "differs" if apart and apart.keys() <= _CONTENTS else "cannot be checked"
        yield Finding("key", cell.path.name, verdict, f"what is here has another key: {why}")
    again.append((plan, images, found))


def _planned(placed: Placed, data: str | None) -> tuple[Plan, Images]:
    """The plan of a request, with the conditions that are stored with it, and its images."""
    config = replace(RunConfig.from_recorded(placed.request.asked), output=None)
    if data is not None:
        config = replace(config, data=data)
    try:
        suites = [
            Suite(
                suite.name,
                suite.version,
                "",
                "representations" if suite.measure == "representations" else "predictions",
                suite.timesteps,
                [read_key(Condition, condition) for condition in suite.conditions],
            )
            for suite in placed.request.suites
        ]
    except BadKeyError as error:
        raise UserError(f"a condition in run.json is none: {error}") from None
    plan = make_plan(config, find_device("cpu"), suites)
    found, _ = images_for(config.data, plan.label_space, [subject.model for subject in plan.subjects])
    images = Images(
        found,
        [subject.geometry for subject in plan.subjects],
        config.limit,
        config.skip_bad_images,
        [cell.condition for cell in plan.cells],
        1,
    )
    return plan, images


def _apart(key: CellKey, others: Sequence[CellKey]) -> dict[str, str]:
    """Field -> how it differs, in words, from the one of our keys that is nearest."""
    mine = _flat(canonical(key))
    return min((_differences(mine, _flat(canonical(other))) for other in others), key=len, default={})


def _differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: f"{name} is {_short(one.get(name))} there and {_short(two.get(name))} here"
        for name in sorted({*one, *two}, key=lambda name: (name not in _CONTENTS, name))
        if one.get(name) != two.get(name)
    }


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 20 else f"{text[:12]}..."


def _flat(value: object, start: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {start: value}
    found: dict[str, Any] = {}
    for name, part in value.items():
        found |= _flat(part, f"{start}.{name}" if start else str(name))
    return found


def _reruns(
    again: Sequence[tuple[Plan, Images, dict[Planned, Cell]]], count: int, say: Callable[[str], None]
) -> Iterator[Finding]:
    """Compute cells again, evenly over all that can be."""
    every = [(index, planned) for index, (_, _, found) in enumerate(again) for planned in found]
    if not every:
        yield Finding("rerun", "", "cannot be checked", "none of the cells can be computed here")
        return
    places = np.linspace(0, len(every) - 1, min(count, len(every))).round().astype(int)
    chosen = [every[place] for place in dict.fromkeys(places.tolist())]
    for index, (plan, images, found) in enumerate(again):
        cells = [planned for which, planned in chosen if which == index]
        if not cells:
            continue
        say(f"computing {len(cells)} cells again")
        settings = Settings(find_device("cpu"), min(_BATCH, len(images.ids)), 0)
        try:
            for finished in evaluate(plan, plan.groups(cells), images, settings, silent()):
                cell = found[finished.cell]
                yield _compared(cell, finished.answers.table().to_pandas())
        except RunError as error:
            yield Finding("rerun", "", "differs", str(error))


def _compared(cell: Cell, made: pd.DataFrame) -> Finding:
    column = "prediction" if "prediction" in cell.columns else "correct"
    there = cell.column(column)
    other = int((there != made[column].to_numpy()).sum())
    where = cell.path.name
    if other == 0:
        return Finding("rerun", where, "ok", f"{len(there)} answers are the same")
    code = cell.provenance.get("packages")
    return Finding(
        "rerun", where, "differs", f"{other} of {len(there)} answers ({column}) are others; computed there with {code}"
    )
