"""Check somebody's results: tables against records, records against seals, keys against what is here, and reruns."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pcbench.analysis.derived import NAMES, tables, to_csv
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
from pcbench.registry import code_only_of
from pcbench.results.cell import IMAGE, THUMBNAIL, Cell
from pcbench.results.disk import read_text
from pcbench.results.study import Placed, load_results
from pcbench.suites.registry import Suite

Verdict = Literal["ok", "differs", "cannot be checked"]
_MOST = 200_000_000  # bytes of a derived table
_BATCH = 32
_RELATIVE, _ABSOLUTE = 1e-2, 1e-3  # of confidences and distances, which differ between machines by rounding
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
    directory: Path,
    data: str | None = None,
    rerun: int = 0,
    say: Callable[[str], None] = lambda text: None,
    trust: Collection[str] = (),
) -> Iterator[Finding]:
    """Check results, at any depth. Nothing is written there.

    Args:
        directory: of the results.
        data: where the images are; None for what the requests name, or what is at hand.
        rerun: how many cells to compute again, evenly over those that can be.
        say: is told what is going on.
        trust: modules of the reader's own that may be imported where run.json names them ("mymodel" for
            "mymodel:net"). What is named there otherwise is a stranger's code: it is not run, and not checked.

    Yields:
        What was checked, as it is checked.

    Raises:
        UserError: no results there.
    """
    study = load_results(directory)
    for problem in study.problems:
        yield Finding("files", "", "differs", problem)
    places = [cell.path.parent.parent for cell in study.cells] + [placed.directory for placed in study.requests]
    for place in dict.fromkeys(places):
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
            yield from _missing(placed, there)
            yield from _keys(placed, there, data, trust, again)
        for cell in study.cells:
            if cell.key.digest not in asked:
                yield Finding("key", cell.path.name, "cannot be checked", "no request in run.json names it")
        if rerun:
            yield from _reruns(again, rerun, say, trust)
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
    made = tables(study)
    for name in NAMES:
        if name not in made and (directory / name).is_file():
            yield Finding(name, directory.name, "differs", "none of the records that are there make it")
    for name, table in made.items():
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
    if old[:1] == new[:1] and sorted(old) == sorted(new):
        return ""  # the same rows, in another order
    for number, (one, two) in enumerate(zip(old, new, strict=False), start=1):
        if one != two:
            return f"line {number} says {one!r}; the records say {two!r}"
    return f"it has {len(old)} lines; the records make {len(new)}"


def _missing(placed: Placed, there: Mapping[str, Cell]) -> Iterator[Finding]:
    """Cells that were asked for and are not there; a request that calls itself complete is wrong then."""
    verdict: Verdict = "differs" if placed.request.status == "complete" else "cannot be checked"
    for digest in placed.request.cells:
        if digest not in there:
            yield Finding(
                "records", digest[:16], verdict, f"run.json of {placed.directory.name} asks for it: not there"
            )


def _keys(
    placed: Placed,
    there: Mapping[str, Cell],
    data: str | None,
    trust: Collection[str],
    again: list[tuple[Plan, Images, dict[Planned, Cell]]],
) -> Iterator[Finding]:
    """The cells of a request, against the models, suites and images that are here."""
    cells = [there[digest] for digest in placed.request.cells if digest in there]
    try:
        with code_only_of(trust):
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
    again: Sequence[tuple[Plan, Images, dict[Planned, Cell]]],
    count: int,
    say: Callable[[str], None],
    trust: Collection[str],
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
            with code_only_of(trust):
                made = list(evaluate(plan, plan.groups(cells), images, settings, silent()))
        except RunError as error:
            yield Finding("rerun", "", "differs", str(error))
            continue
        for finished in made:
            dynamic = plan.subjects[finished.cell.subject].model.has_dynamics
            yield _compared(found[finished.cell], finished.answers.table(), dynamic)


def _compared(cell: Cell, made: pa.Table, has_dynamics: bool) -> Finding:
    """Whether all that a cell says was found again: answers to the bit, and real numbers as far as machines agree."""
    where, code = cell.path.name, cell.provenance.get("packages")
    columns = [name for name in cell.columns if name != THUMBNAIL]
    stored = cell.table(columns)
    for name in sorted(columns, key=lambda name: (name != "prediction", name)):  # what others follow from, first
        if name not in made.column_names:
            return Finding("rerun", where, "differs", f"column {name!r} is not computed here")
        other = _others(stored.column(name), made.column(name), text=name == IMAGE)
        if other:
            why = f"{other} of {stored.num_rows} answers ({name}) are others; computed there with {code}"
            return Finding("rerun", where, "differs", why)
    if cell.has_dynamics != has_dynamics:
        return Finding("rerun", where, "differs", f"it says has_dynamics = {cell.has_dynamics}; here {has_dynamics}")
    return Finding("rerun", where, "ok", f"{stored.num_rows} answers are the same")


def _others(there: pa.ChunkedArray, here: pa.ChunkedArray, *, text: bool) -> int:
    """How many values differ."""
    if text:
        return sum(one != two for one, two in zip(there.to_pylist(), here.to_pylist(), strict=True))
    one, two = there.to_numpy(), here.to_numpy()
    if one.dtype.kind != "f" and two.dtype.kind != "f":
        return int((one != two).sum())
    return int((~np.isclose(one, two, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True)).sum())
