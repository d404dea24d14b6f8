"""Workflows around FEFF."""
