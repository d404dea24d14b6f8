"""Calculations that take a fraction of a second and run in the Python process that asks for them, one a file."""
