#!/usr/bin/env bash
# Snakemake runs a copy of this in each new environment, from its own working directory.
set -euo pipefail
source=${FLAWLINE_SOURCE:?rules/common.smk sets it to the folder of the Snakefile}
export PYTHONNOUSERSITE=1 # packages in the user's home do not belong to the environment
python -m pip install --requirement "$source/requirements.lock"
python -m pip install --no-deps --editable "$source"
