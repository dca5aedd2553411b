"""Trainings of many runs: a learning curve, folds, a search of settings."""
