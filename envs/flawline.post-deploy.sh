#!/usr/bin/env bash
# Snakemake runs this once, in the repository, inside each new conda environment.
set -euo pipefail
pip install --requirement requirements.lock
pip install --no-deps --editable .
