"""The words that all parts share: folders, files, hyperparameters, metric lines. Standard library only."""
