#!/usr/bin/env bash
# As flawline.post-deploy.sh, but torch and torchvision are conda's, and nothing of CUDA is needed.
set -euo pipefail
source=${FLAWLINE_SOURCE:?rules/common.smk sets it to the folder of the Snakefile}
export PYTHONNOUSERSITE=1
requirements=$(mktemp)
trap 'rm -f "$requirements"' EXIT
grep -vE '^(torch|torchvision|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==' "$source/requirements.lock" > "$requirements"
python -m pip install --requirement "$requirements"
python -m pip install --no-deps --editable "$source"
