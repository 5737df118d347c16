# Everything that a run needs, for CPUs and, with the NVIDIA container toolkit, GPUs:
#   docker build --tag flawline .
#   docker run --rm --volume "$PWD:/work" flawline --cores 8 --configfile my.yaml
FROM python:3.12-slim
COPY . /opt/flawline
RUN pip install --no-cache-dir --requirement /opt/flawline/requirements.lock \
    && pip install --no-cache-dir --no-deps --editable /opt/flawline
WORKDIR /work
ENTRYPOINT ["snakemake", "--snakefile", "/opt/flawline/Snakefile"]
