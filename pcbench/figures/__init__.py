"""Pictures: of results (`study_figures`), and of the papers whose experiments pcbench repeats (`papers`)."""

from pcbench.figures.run import study_figures

__all__ = ["study_figures"]
