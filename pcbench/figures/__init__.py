"""Pictures: of one run (`run_figures`), and of the papers whose experiments pcbench repeats (`papers`)."""

from pcbench.figures.run import run_figures

__all__ = ["run_figures"]
