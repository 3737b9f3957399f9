"""Training recipes: feedback weights, hyperparameters, HaH, recurrent networks, baselines."""
