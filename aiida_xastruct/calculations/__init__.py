"""Calculations: jobs on a computer, and functions."""
