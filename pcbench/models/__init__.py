"""What is evaluated: classifiers that answer at every timestep, and where their weights come from."""
