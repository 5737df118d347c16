"""Frozen features, one array per subset; features extracted before come from the feature store."""


rule extract_features:
    input:
        images=INPUTS.seen("{subset}"),
        weights=INPUTS.backbone,
    output:
        features=f"{SUBSET}/features/{{features}}.npy",
        about=f"{SUBSET}/features/{{features}}.json",
    log:
        log_of("extract_features"),
    benchmark:
        benchmark_of("extract_features")
    priority: train_first
    conda:
        ENVIRONMENT
    threads: RESOURCES.threads_of_many
    resources:
        gpu=RESOURCES.gpus,
        mem_mb=memory(3000, 2),
        runtime=minutes(60),
    params:
        store=str(STORE),
        options=PARAMS.entry("features", "features"),
        code=CODE.of("extract_features.py"),
    message:
        "Extracting {wildcards.features} features of {wildcards.category}, {wildcards.subset}"
    script:
        "../scripts/extract_features.py"


# Poses are only used in training.
use rule extract_features as extract_posed_features with:
    input:
        images=f"{POSED}/images.npy",
        weights=INPUTS.backbone,
    output:
        features=f"{POSED}/features/{{features}}.npy",
        about=f"{POSED}/features/{{features}}.json",
    log:
        log_of("extract_posed_features"),
    benchmark:
        benchmark_of("extract_posed_features")
    priority: 0
    message:
        "Extracting {wildcards.features} features of {wildcards.category}, {wildcards.poses}"
