"""Parsers, one a calculation."""
