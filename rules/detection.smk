"""Train, score, threshold: nothing here may see test labels, test masks or test scores."""


rule train:
    input:
        unpack(detector_inputs("train", training=True)),
    output:
        model=f"{DETECTOR}/model/model.safetensors",
        about=f"{DETECTOR}/model/model.json",
        log=f"{DETECTOR}/training.csv",
    log:
        f"{LOGS}/train/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.tsv"
    conda:
        "../envs/flawline.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=lambda wildcards, input: 2000 + 4 * input.size_mb,
        runtime=240,
    params:
        detector=detector_class,
        image_size=lambda wildcards: CONFIG.of(wildcards.category).prepare.size,
        options=entry("detectors", "detector"),
        code=detector_code("train.py"),
    message:
        "Training {wildcards.detector} (seed {wildcards.seed}) on {wildcards.category}"
    script:
        "../scripts/train.py"


rule score:
    input:
        unpack(detector_inputs("{subset}")),
        model=f"{DETECTOR}/model/model.safetensors",
        about=f"{DETECTOR}/model/model.json",
    output:
        scores=f"{DETECTOR}/{{subset}}/scores.csv",
        maps=f"{DETECTOR}/{{subset}}/anomaly_maps.npy",
    log:
        f"{LOGS}/score/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.{{subset}}.log",
    benchmark:
        f"{BENCHMARKS}/score/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.{{subset}}.tsv"
    conda:
        "../envs/flawline.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    params:
        detector=detector_class,
        image_size=lambda wildcards: CONFIG.of(wildcards.category).prepare.size,
        code=detector_code("score.py"),
    message:
        "Scoring {wildcards.category}, {wildcards.subset}, with {wildcards.detector}"
    script:
        "../scripts/score.py"


rule threshold:
    input:
        f"{DETECTOR}/calibration/scores.csv",
    output:
        f"{DETECTOR}/threshold.json",
    log:
        f"{LOGS}/threshold/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/threshold/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.tsv"
    conda:
        "../envs/flawline.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        options=options("threshold"),
        code=code("threshold.py"),
    message:
        "Choosing the threshold of {wildcards.detector} for {wildcards.category}"
    script:
        "../scripts/threshold.py"
