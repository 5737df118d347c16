"""Several detectors as one. What is asked of any detector, these rules make for a fusion."""


rule fuse:
    input:
        scores=members("calibration/scores.csv"),
        maps=members("calibration/anomaly_maps.npy"),
        about=members("model/model.json"),
    output:
        threshold=f"{DETECTOR}/threshold.json",
        about=f"{DETECTOR}/model/model.json",
        log=f"{DETECTOR}/training.csv",
    log:
        f"{LOGS}/fuse/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/fuse/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.tsv"
    wildcard_constraints:
        detector=among(CONFIG.fusion),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(1000, 2),
        runtime=minutes(10),
    params:
        options=lambda wildcards: plain(CONFIG.fusion[wildcards.detector]),
        costs=given_costs,
        mode=lambda wildcards: CONFIG.of(wildcards.category).calibration.mode,
        folds=fold_count,
        code=code("fuse.py"),
    message:
        "Setting the threshold of {wildcards.detector} for {wildcards.category}"
    script:
        "../scripts/fuse.py"


rule fuse_scores:
    input:
        scores=members("{subset}/scores.csv"),
        maps=members("{subset}/anomaly_maps.npy"),
        about=f"{DETECTOR}/model/model.json",
    output:
        scores=f"{DETECTOR}/{{subset}}/scores.csv",
        maps=f"{DETECTOR}/{{subset}}/anomaly_maps.npy",
    log:
        f"{LOGS}/fuse_scores/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.{{subset}}.log",
    benchmark:
        f"{BENCHMARKS}/fuse_scores/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.{{subset}}.tsv"
    wildcard_constraints:
        detector=among(CONFIG.fusion),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(1000, 2),
        runtime=minutes(10),
    params:
        detectors=lambda wildcards: CONFIG.fusion[wildcards.detector].detectors,
        code=code("fuse_scores.py"),
    message:
        "Scoring {wildcards.category}, {wildcards.subset}, with {wildcards.detector}"
    script:
        "../scripts/fuse_scores.py"


use rule fuse_scores as fuse_test_goods with:
    input:
        scores=members("folds/{fold}/test_goods.csv"),
        about=f"{DETECTOR}/model/model.json",
    output:
        scores=f"{FOLD}/test_goods.csv",
    log:
        f"{LOGS}/fuse_test_goods/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.{{fold}}.log",
    benchmark:
        f"{BENCHMARKS}/fuse_test_goods/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.{{fold}}.tsv"
    message:
        "Scoring good test images of {wildcards.category} without fold {wildcards.fold}"
