"""flawline: from folders of product photographs to honestly measured defect detectors."""

__version__ = "0.1.0"
