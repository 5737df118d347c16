"""Seeds: every random choice derives from (seed, category, stage).

So no choice depends on other jobs, on their order or on their number.
"""

import hashlib

import numpy as np


def derive(seed: int, *names: str) -> int:
    """Return a 63-bit seed for one stage of one category.

    Parameters
    ----------
    seed : the user's seed.
    names : what the seed is for, for example ``("bottle", "split")``.
    """
    text = "\x1f".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str) -> np.random.Generator:
    """Return NumPy's generator for one stage of one category."""
    return np.random.default_rng(derive(seed, *names))
