"""Frozen features, one array per subset; what was extracted before comes from the feature store."""


rule extract_features:
    input:
        images=seen("{subset}"),
        weights=weights_file,
    output:
        features=f"{SUBSET}/features/{{features}}.npy",
        about=f"{SUBSET}/features/{{features}}.json",
    log:
        f"{LOGS}/extract_features/{{category}}.{{protocol}}.{{subset}}.{{features}}.log",
    benchmark:
        f"{BENCHMARKS}/extract_features/{{category}}.{{protocol}}.{{subset}}.{{features}}.tsv"
    priority: train_first
    conda:
        ENVIRONMENT
    threads: share
    resources:
        gpu=a_gpu,
        mem_mb=memory(3000, 2),
        runtime=minutes(60),
    params:
        store=str(STORE),
        options=entry("features", "features"),
        code=code("extract_features.py"),
    message:
        "Extracting {wildcards.features} features of {wildcards.category}, {wildcards.subset}"
    script:
        "../scripts/extract_features.py"


# Poses are for training alone.
use rule extract_features as extract_posed_features with:
    input:
        images=f"{POSED}/images.npy",
        weights=weights_file,
    output:
        features=f"{POSED}/features/{{features}}.npy",
        about=f"{POSED}/features/{{features}}.json",
    log:
        f"{LOGS}/extract_posed_features/{{category}}.{{protocol}}.{{poses}}.{{features}}.log",
    benchmark:
        f"{BENCHMARKS}/extract_posed_features/{{category}}.{{protocol}}.{{poses}}.{{features}}.tsv"
    priority: 0
    message:
        "Extracting {wildcards.features} features of {wildcards.category}, {wildcards.poses}"
