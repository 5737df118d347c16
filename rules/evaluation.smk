"""The first rules that see test labels and masks."""


rule near_duplicates:
    input:
        train=f"{PROTOCOL}/train/images.npy",
        calibration=lambda wildcards: (
            [] if wildcards.category in UNSPLIT else f"{PROTOCOL}/calibration/images.npy"
        ),
        test=f"{PROTOCOL}/test/images.npy",
    output:
        f"{PROTOCOL}/near_duplicates.csv",
    log:
        f"{LOGS}/near_duplicates/{{category}}.{{protocol}}.log",
    benchmark:
        f"{BENCHMARKS}/near_duplicates/{{category}}.{{protocol}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(2000, 1),
        runtime=minutes(20),
    params:
        code=code("near_duplicates.py"),
    message:
        "Looking for near-duplicates across the subsets of {wildcards.category}"
    script:
        "../scripts/near_duplicates.py"


# Cross-calibration: the drift check compares what one model says of either goods.
rule score_test_goods:
    input:
        unpack(detector_inputs("test")),
        test_labels=f"{PROTOCOL}/test/labels.csv",
        model=f"{FOLD}/model/model.safetensors",
        about=f"{FOLD}/model/model.json",
    output:
        f"{FOLD}/test_goods.csv",
    log:
        f"{LOGS}/score_test_goods/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.{{fold}}.log",
    benchmark:
        f"{BENCHMARKS}/score_test_goods/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.{{fold}}.tsv"
    wildcard_constraints:
        detector=among(CONFIG.detectors),
    conda:
        ENVIRONMENT
    threads: share
    resources:
        gpu=a_gpu,
        mem_mb=memory(4000, 1),
        runtime=minutes(60),
    params:
        detector=detector_class,
        code=detector_code("score_test_goods.py"),
    message:
        "Scoring good test images of {wildcards.category} without fold {wildcards.fold}"
    script:
        "../scripts/score_test_goods.py"


# Only where other draws of the calibration goods are asked for: what would come of them.
rule draws:
    input:
        unpack(drawn),
        split=f"{PROTOCOL}/split.csv",
    output:
        f"{DETECTOR}/draws.csv",
    log:
        f"{LOGS}/draws/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/draws/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        gpu=a_gpu,
        mem_mb=memory(3000, 5),
        runtime=minutes(600),
    params:
        detector=detector_class,
        options=entry("detectors", "detector"),
        threshold=options("threshold"),
        seeds=drawn_seeds,
        fraction=lambda wildcards: CONFIG.of(wildcards.category).calibration.held_back,
        code=detector_code("draws.py"),
    message:
        "Training {wildcards.detector} on other draws of the goods of {wildcards.category}"
    script:
        "../scripts/draws.py"


rule evaluate:
    input:
        labels=f"{PROTOCOL}/test/labels.csv",
        masks=f"{PROTOCOL}/test/masks.npy",
        counted=counted("test"),
        split=f"{PROTOCOL}/split.csv",
        problems=f"{CATEGORY}/problems.csv",
        near_duplicates=f"{PROTOCOL}/near_duplicates.csv",
        train=f"{DETECTOR}/train/scores.csv",
        calibration=f"{DETECTOR}/calibration/scores.csv",
        folds=lambda wildcards: (
            folds("test_goods.csv")(wildcards) if wildcards.category in CROSS else []
        ),
        draws=lambda wildcards: (
            f"{DETECTOR}/draws.csv".format(**wildcards) if drawn_seeds(wildcards) else []
        ),
        scores=f"{DETECTOR}/test/scores.csv",
        maps=f"{DETECTOR}/test/anomaly_maps.npy",
        threshold=f"{DETECTOR}/threshold.json",
        model=f"{DETECTOR}/model/model.json",
    output:
        metrics=f"{DETECTOR}/metrics.json",
        predictions=f"{DETECTOR}/predictions.csv",
    log:
        f"{LOGS}/evaluate/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(2000, 4),
        runtime=minutes(20),
    params:
        method=about_method("method"),
        apart=lambda wildcards: about_method("apart")(wildcards) != "no",
        boundary=about_method("boundary"),
        options=plain(CONFIG.evaluation),
        code=code("evaluate.py"),
    message:
        "Evaluating {wildcards.detector} (seed {wildcards.seed}) on {wildcards.category}"
    script:
        "../scripts/evaluate.py"


rule compare:
    input:
        metrics=runs("metrics.json"),
        predictions=runs("predictions.csv"),
    output:
        runs=report(
            f"{RESULTS}/comparison/runs.csv",
            caption="captions/comparison.rst",
            category="Comparison",
            labels={"table": "every run"},
        ),
        seeds=report(
            f"{RESULTS}/comparison/over_seeds.csv",
            caption="captions/comparison.rst",
            category="Comparison",
            labels={"table": "over seeds"},
        ),
        categories=report(
            f"{RESULTS}/comparison/over_categories.csv",
            caption="captions/comparison.rst",
            category="Comparison",
            labels={"table": "over categories"},
        ),
        best=f"{RESULTS}/comparison/best.csv",
        pairwise=f"{RESULTS}/comparison/pairwise.csv",
        wilcoxon=f"{RESULTS}/comparison/wilcoxon.csv",
        ranks=f"{RESULTS}/comparison/ranks.csv",
        configuration=f"{RESULTS}/comparison/configuration.json",
    log:
        f"{LOGS}/compare.log",
    benchmark:
        f"{BENCHMARKS}/compare.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        configuration=lambda wildcards: CONFIGURATION,
        code=code("compare.py"),
    message:
        "Comparing detectors"
    script:
        "../scripts/compare.py"
