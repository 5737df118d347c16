#!/usr/bin/env bash
# Snakemake runs a copy of this in each new environment, in whatever its working directory is.
set -euo pipefail
source=${FLAWLINE_SOURCE:?rules/common.smk sets it to the folder of the Snakefile}
export PYTHONNOUSERSITE=1 # what lies in the user's home is not the environment's
python -m pip install --requirement "$source/requirements.lock"
python -m pip install --no-deps --editable "$source"
