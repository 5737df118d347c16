"""The first rules that see test labels and masks."""


rule evaluate:
    input:
        labels=f"{PROTOCOL}/test/labels.csv",
        masks=f"{PROTOCOL}/test/masks.npy",
        calibration=f"{DETECTOR}/calibration/scores.csv",
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
        "../envs/flawline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        method=lambda wildcards: detector_options(wildcards).method,
        code=code("evaluate.py"),
    message:
        "Evaluating {wildcards.detector} (seed {wildcards.seed}) on {wildcards.category}"
    script:
        "../scripts/evaluate.py"


rule compare:
    input:
        runs("metrics.json"),
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
    log:
        f"{LOGS}/compare.log",
    benchmark:
        f"{BENCHMARKS}/compare.tsv"
    conda:
        "../envs/flawline.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code("compare.py"),
    message:
        "Comparing detectors"
    script:
        "../scripts/compare.py"
