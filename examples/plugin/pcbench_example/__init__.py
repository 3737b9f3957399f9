"""What a plug-in for pcbench looks like: one module each for a network, a corruption, an attack and a data set."""
