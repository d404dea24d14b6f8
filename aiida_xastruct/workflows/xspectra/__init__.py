"""Workflows that run XSpectra."""
