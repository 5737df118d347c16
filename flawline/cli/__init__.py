"""The command `flawline`: photographs to report in three steps, on top of Snakemake."""
