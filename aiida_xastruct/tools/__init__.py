"""Helpers for people and workflows: codes, queries, plots."""
