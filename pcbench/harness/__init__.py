"""Plan, cells, evaluation, engines, resume: the sweep itself."""
