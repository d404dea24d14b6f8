"""Data nodes: a spectrum, a training set, a model."""
