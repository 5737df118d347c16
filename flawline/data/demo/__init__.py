"""The embedded demo dataset: four kinds of product, drawn rather than photographed."""
