"""Sizes that options and arrays share."""

MULTIPLE = 32
"""Sides that are chosen here are multiples of it, as networks halve an image five times."""
