"""Sizes that options and arrays share."""

MULTIPLE = 32
"""Sides that are chosen here are multiples of it, as networks halve an image five times."""
TYPICAL = (256, 320)
"""Height and width of an image that networks are tried on where its size is not known yet."""
