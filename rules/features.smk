"""Frozen features, one array per subset; what was extracted before comes from the feature store."""


rule extract_features:
    input:
        images=f"{SUBSET}/images.npy",
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
