"""Cells of several directories, copied to one."""

from collections.abc import Sequence
from pathlib import Path

from pcbench.errors import UserError
from pcbench.results.cell import Cell, DamagedCellError, most_bytes, read_cell
from pcbench.results.directory import Directory, cell_files
from pcbench.results.disk import open_regular
from pcbench.results.study import load_results, results_below


def merge(directories: Sequence[Path], target: Directory) -> tuple[int, list[str]]:
    """Copy the cells of some directories, which may come from strangers, and what was asked of them.

    A file's name is made of the key in it, never taken from where it came from; only files that are whole are copied.

    Args:
        directories: at any depth.
        target: open for writing.

    Returns:
        How many cells were copied, and one line for each file that could not be.

    Raises:
        UserError: no results there, or the same cell with other records in two places.
        RunError: the target cannot be written.
    """
    study = load_results(*directories)
    clash = next((line for line in study.problems if "other records" in line), None)
    if clash is not None:
        raise UserError(clash)
    count = 0
    problems = list(study.problems)
    for cell in study.cells:
        there = target.cell(cell.key)
        if there is not None and there.content != cell.content and there.provenance.get("reduced_from") != cell.content:
            if cell.provenance.get("reduced_from") == there.content:
                continue
            raise UserError(f"{target.path.name} has {cell.path.name} with other records; merge into another --output")
        if there is not None and there.content == cell.content:
            continue
        wrong = cell.verify()
        if wrong:
            problems.append(wrong)
            whole = _whole_copy(cell, directories)
            if whole is None:
                continue
            cell = whole
        with open_regular(cell.path, most_bytes(cell.key)) as file:
            target.adopt(cell, file.read())
        count += 1
    for placed in study.requests:
        target.record(placed.request, lambda kept: None)
    return count, problems


def _whole_copy(cell: Cell, directories: Sequence[Path]) -> Cell | None:
    """The same cell, undamaged, from another of the directories."""
    for place in dict.fromkeys(found for each in directories for found in results_below(each)):
        for path in cell_files(place):
            if path.name != cell.path.name or path == cell.path:
                continue
            try:
                other = read_cell(path)
            except DamagedCellError:
                continue
            if not other.verify():
                return other
    return None
