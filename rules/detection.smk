"""Train, score, threshold, box: nothing here may see test labels or masks, nor make a choice by test
scores."""


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
    wildcard_constraints:
        detector=among(CONFIG.detectors),
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        gpu=a_gpu,
        mem_mb=memory(2000, 4),
        runtime=minutes(240),
    params:
        detector=detector_class,
        prepare=options("prepare"),
        regions=region_options,
        poses=used_poses,
        object_masks=used_object_masks,
        options=entry("detectors", "detector"),
        code=detector_code("train.py"),
    message:
        "Training {wildcards.detector} (seed {wildcards.seed}) on {wildcards.category}"
    script:
        "../scripts/train.py"


rule score:
    input:
        unpack(scored),
        model=f"{DETECTOR}/model/model.safetensors",
        about=f"{DETECTOR}/model/model.json",
    output:
        scores=f"{DETECTOR}/{{subset}}/scores.csv",
        maps=f"{DETECTOR}/{{subset}}/anomaly_maps.npy",
    log:
        f"{LOGS}/score/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.{{subset}}.log",
    benchmark:
        f"{BENCHMARKS}/score/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.{{subset}}.tsv"
    wildcard_constraints:
        detector=among(CONFIG.detectors),
    priority: train_first
    conda:
        ENVIRONMENT
    threads: share
    resources:
        gpu=a_gpu,
        mem_mb=memory(4000, 1),
        runtime=minutes(60),
    params:
        detector=detector_class,
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
    wildcard_constraints:
        detector=among(CONFIG.detectors),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=minutes(5),
    params:
        options=options("threshold"),
        mode=lambda wildcards: CONFIG.of(wildcards.category).calibration.mode,
        folds=fold_count,
        code=code("threshold.py"),
    message:
        "Choosing the threshold of {wildcards.detector} for {wildcards.category}"
    script:
        "../scripts/threshold.py"


rule boxes:
    input:
        sizes=f"{PROTOCOL}/test/sizes.csv",
        maps=f"{DETECTOR}/test/anomaly_maps.npy",
        calibration_maps=f"{DETECTOR}/calibration/anomaly_maps.npy",
    output:
        f"{DETECTOR}/test/boxes.csv",
    log:
        f"{LOGS}/boxes/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/boxes/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(1000, 4),
        runtime=minutes(10),
    params:
        options=options("boxes"),
        resize=lambda wildcards: CONFIG.of(wildcards.category).prepare.resize,
        code=code("boxes.py"),
    message:
        "Boxing what {wildcards.detector} (seed {wildcards.seed}) finds on {wildcards.category}"
    script:
        "../scripts/boxes.py"


# Cross-calibration: the scores of all training goods, each from a model that never saw it.
use rule train as train_fold with:
    input:
        unpack(detector_inputs("train", training=True)),
        folds=f"{PROTOCOL}/train/folds.csv",
    output:
        model=f"{FOLD}/model/model.safetensors",
        about=f"{FOLD}/model/model.json",
        log=f"{FOLD}/training.csv",
    log:
        f"{LOGS}/train_fold/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.{{fold}}.log",
    benchmark:
        f"{BENCHMARKS}/train_fold/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.{{fold}}.tsv"
    message:
        "Training {wildcards.detector} on {wildcards.category} without fold {wildcards.fold}"


use rule score as score_fold with:
    input:
        unpack(detector_inputs("train")),
        folds=f"{PROTOCOL}/train/folds.csv",
        model=f"{FOLD}/model/model.safetensors",
        about=f"{FOLD}/model/model.json",
    output:
        scores=f"{FOLD}/scores.csv",
        maps=f"{FOLD}/anomaly_maps.npy",
    log:
        f"{LOGS}/score_fold/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.{{fold}}.log",
    benchmark:
        f"{BENCHMARKS}/score_fold/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.{{fold}}.tsv"
    priority: 0
    message:
        "Scoring fold {wildcards.fold} of {wildcards.category} with {wildcards.detector}"


ruleorder: gather_folds > score
ruleorder: leave_one_out > score


rule gather_folds:
    input:
        scores=folds("scores.csv"),
        maps=folds("anomaly_maps.npy"),
    output:
        scores=f"{DETECTOR}/calibration/scores.csv",
        maps=f"{DETECTOR}/calibration/anomaly_maps.npy",
    log:
        f"{LOGS}/gather_folds/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/gather_folds/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.tsv"
    wildcard_constraints:
        category=among(CROSS),
        detector=among(CONFIG.detectors),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(1000, 2),
        runtime=minutes(10),
    params:
        code=code("gather_folds.py"),
    message:
        "Gathering the calibration scores of {wildcards.detector} on {wildcards.category}"
    script:
        "../scripts/gather_folds.py"


# Leave-one-out: the training scores, each without what the memory has of the image itself.
use rule gather_folds as leave_one_out with:
    input:
        scores=[f"{DETECTOR}/train/scores.csv"],
        maps=[f"{DETECTOR}/train/anomaly_maps.npy"],
    output:
        scores=f"{DETECTOR}/calibration/scores.csv",
        maps=f"{DETECTOR}/calibration/anomaly_maps.npy",
    log:
        f"{LOGS}/leave_one_out/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/leave_one_out/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.tsv"
    wildcard_constraints:
        category=among(LEAVING),
        detector=among(CONFIG.detectors),
