"""Frozen features, one array per subset."""


def weights_file(wildcards):
    file = CONFIG.of(wildcards.category).features[wildcards.features].weights_file
    return [] if file is None else str(file)


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
    params:
        options=entry("features", "features"),
        code=code("extract_features.py"),
    threads: 4
    resources:
        gpu=1,
        mem_mb=lambda wildcards, input: 3000 + 2 * input.size_mb,
        runtime=60,
    conda:
        "../envs/flawline.yaml"
    message:
        "Extracting {wildcards.features} features of {wildcards.category}, {wildcards.subset}"
    script:
        "../scripts/extract_features.py"
