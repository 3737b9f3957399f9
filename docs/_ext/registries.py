"""Tables of what is registered, made from the registries themselves: `{pcbench-models}`, `{pcbench-suites}`, ...

Each directive asks the function that the command line asks, so that a page never lists what is not there.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any, get_type_hints

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

Row = Sequence[str]


class Table(Directive):
    """A table whose rows a function makes."""

    has_content = False
    titles: Row = ()
    widths: Sequence[int] = ()

    def rows(self) -> Iterable[Row]:
        """The cells, as text; `like this` is set as code."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """The table."""
        group = nodes.tgroup(cols=len(self.titles))
        group += [nodes.colspec(colwidth=width) for width in self.widths or [1] * len(self.titles)]
        head, body = nodes.thead(), nodes.tbody()
        head += _line(self.titles)
        body += [_line(row) for row in self.rows()]
        group += [head, body]
        table = nodes.table("", group, classes=["colwidths-auto"])
        return [nodes.container("", table, classes=["wide"])]


def _line(cells: Row) -> nodes.row:
    row = nodes.row()
    for text in cells:
        paragraph = nodes.paragraph()
        for n, part in enumerate(str(text).split("`")):
            if part:
                paragraph += nodes.literal(part, part) if n % 2 else nodes.Text(part)
        row += nodes.entry("", paragraph)
    return row


def _code(names: Iterable[object]) -> str:
    return ", ".join(f"`{name}`" for name in names)


class Models(Table):
    """The registered models."""

    titles = ("model", "family", "T", "baseline", "what it is")
    widths = (20, 12, 5, 20, 43)

    def rows(self) -> Iterable[Row]:
        """One for each model."""
        from pcbench import list_models

        for row in list_models():
            baseline = f"`{row['baseline']}`" if row["baseline"] else "itself"
            yield (
                f"`{row['name']}`",
                str(row["family"]),
                str(row["timesteps"] or "-"),
                baseline,
                str(row["description"]),
            )


class Weights(Table):
    """The weights of the registered models."""

    titles = ("model", "at hand after installation", "after a download, an import or training")
    widths = (30, 30, 40)

    def rows(self) -> Iterable[Row]:
        """One for each model that has a tag."""
        from pcbench import list_models

        for row in list_models():
            tags, at_hand = row["weights"], row["at_hand"]
            assert isinstance(tags, list)
            assert isinstance(at_hand, list)
            if tags:
                here = [tag for tag in tags if tag in at_hand]
                yield f"`{row['name']}`", _code(here) or "-", _code(tag for tag in tags if tag not in here) or "-"


class Suites(Table):
    """The suites."""

    titles = ("suite", "version", "conditions", "what it asks", "perturbations")
    widths = (20, 8, 8, 34, 30)

    def rows(self) -> Iterable[Row]:
        """One for each suite."""
        from pcbench import list_suites

        for row in list_suites():
            perturbations = row["perturbations"]
            assert isinstance(perturbations, list)
            yield (
                f"`{row['name']}`",
                str(row["version"]),
                "-" if row["conditions"] is None else str(row["conditions"]),
                f"{row['description']}; needs an extra: `pcbench suites`" if row["needs"] else str(row["description"]),
                _code(perturbations),
            )


class Data(Table):
    """The registered data sets."""

    titles = ("data set", "what it is", "how to have it")
    widths = (20, 40, 40)

    def rows(self) -> Iterable[Row]:
        """One for each data set."""
        from pcbench import list_data

        for row in list_data():
            yield f"`{row['name']}`", str(row["description"]), str(row["needs"])


class Exports(SphinxDirective):
    """Everything that `import pcbench` offers, and the classes that those functions return."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        """Autodoc of each name."""
        import pcbench

        lines: list[str] = []
        classes: dict[str, None] = {}
        for name in pcbench.__all__:
            value = getattr(pcbench, name)
            if isinstance(value, type):
                classes[_path(value)] = None
            elif callable(value):
                lines += [f".. autofunction:: pcbench.{name}", ""]
                classes |= dict.fromkeys(_path(kind) for kind in _ours(value))
            elif hasattr(value, "__path__") or hasattr(value, "__file__"):
                lines += [f".. automodule:: pcbench.{name}", "   :members:", ""]
        for name in classes:
            lines += [f".. autoclass:: {name}", "   :members:", ""]
        return self.parse_text_to_nodes(StringList(lines, source="pcbench.__all__"), allow_section_headings=False)


def _ours(function: Callable[..., Any]) -> list[type]:
    """The classes of pcbench that a function returns."""
    try:
        returned = get_type_hints(function).get("return")
    except NameError:  # a name that is imported for the type checker only
        return []
    return [returned] if isinstance(returned, type) and returned.__module__.startswith("pcbench") else []


def _path(kind: type) -> str:
    import_module(kind.__module__)
    return f"{kind.__module__}.{kind.__qualname__}"


def _plain(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are written to be read as they are: `|x|` is an absolute value, not a substitution."""
    lines[:] = [line if "`" in line or line.startswith(" " * 8) else line.replace("|", "\\|") for line in lines]


def setup(app: Sphinx) -> dict[str, object]:
    """Register the directives."""
    app.connect("autodoc-process-docstring", _plain, priority=400)
    for name, directive in {
        "pcbench-models": Models,
        "pcbench-weights": Weights,
        "pcbench-suites": Suites,
        "pcbench-data": Data,
        "pcbench-exports": Exports,
    }.items():
        app.add_directive(name, directive)
    return {"version": "1", "parallel_read_safe": True}
