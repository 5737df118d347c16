"""Train, score, threshold, box: no rule here may see test labels or masks, or choose anything by test
scores."""


rule train:
    input:
        unpack(INPUTS.detector("train", training=True)),
    output:
        model=f"{DETECTOR}/model/model.safetensors",
        about=f"{DETECTOR}/model/model.json",
        log=f"{DETECTOR}/training.csv",
    log:
        log_of("train"),
    benchmark:
        benchmark_of("train")
    wildcard_constraints:
        detector=one_of(CONFIG.detectors),
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        gpu=RESOURCES.gpus,
        mem_mb=memory(2000, 4),
        runtime=minutes(240),
    params:
        detector=PARAMS.implementation,
        prepare=PARAMS.section("prepare"),
        regions=PARAMS.regions,
        poses=PARAMS.poses,
        object_masks=PARAMS.object_masks,
        options=PARAMS.entry("detectors", "detector"),
        code=CODE.with_method("train.py"),
    message:
        "Training {wildcards.detector} (seed {wildcards.seed}) on {wildcards.category}"
    script:
        "../scripts/train.py"


# One model of all categories: the first one trains it, the others take it over.
ruleorder: share_model > train


rule share_model:
    input:
        model=INPUTS.leader("model/model.safetensors"),
        about=INPUTS.leader("model/model.json"),
        log=INPUTS.leader("training.csv"),
    output:
        model=f"{DETECTOR}/model/model.safetensors",
        about=f"{DETECTOR}/model/model.json",
        log=f"{DETECTOR}/training.csv",
    log:
        log_of("share_model"),
    benchmark:
        benchmark_of("share_model")
    wildcard_constraints:
        category=one_of(CONFIG.category_names[1:]),
        detector=one_of(TARGETS.shared),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=minutes(5),
    params:
        code=CODE.of("share_model.py"),
    message:
        "Taking over the model of {wildcards.detector} for {wildcards.category}"
    script:
        "../scripts/share_model.py"


rule score:
    input:
        unpack(INPUTS.scored),
        model=f"{DETECTOR}/model/model.safetensors",
        about=f"{DETECTOR}/model/model.json",
    output:
        scores=f"{DETECTOR}/{{subset}}/scores.csv",
        maps=f"{DETECTOR}/{{subset}}/anomaly_maps.npy",
    log:
        log_of("score"),
    benchmark:
        benchmark_of("score")
    wildcard_constraints:
        detector=one_of(CONFIG.detectors),
    priority: train_first
    conda:
        ENVIRONMENT
    threads: RESOURCES.threads_of_many
    resources:
        gpu=RESOURCES.gpus,
        mem_mb=memory(4000, 1),
        runtime=minutes(60),
    params:
        detector=PARAMS.implementation,
        code=CODE.with_method("score.py"),
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
        log_of("threshold"),
    benchmark:
        benchmark_of("threshold")
    wildcard_constraints:
        detector=one_of(CONFIG.detectors),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=minutes(5),
    params:
        options=PARAMS.section("threshold"),
        mode=PARAMS.value("calibration.mode"),
        folds=PARAMS.fold_count,
        code=CODE.of("threshold.py"),
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
        log_of("boxes"),
    benchmark:
        benchmark_of("boxes")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000, 4),
        runtime=minutes(10),
    params:
        options=PARAMS.section("boxes"),
        resize=PARAMS.value("prepare.resize"),
        code=CODE.of("boxes.py"),
    message:
        "Boxing what {wildcards.detector} (seed {wildcards.seed}) finds on {wildcards.category}"
    script:
        "../scripts/boxes.py"


# Cross-calibration: the scores of all good training images, each from a model that never saw it.
use rule train as train_fold with:
    input:
        unpack(INPUTS.detector("train", training=True)),
        folds=f"{PROTOCOL}/train/folds.csv",
    output:
        model=f"{FOLD}/model/model.safetensors",
        about=f"{FOLD}/model/model.json",
        log=f"{FOLD}/training.csv",
    log:
        log_of("train_fold"),
    benchmark:
        benchmark_of("train_fold")
    message:
        "Training {wildcards.detector} on {wildcards.category} without fold {wildcards.fold}"


use rule score as score_fold with:
    input:
        unpack(INPUTS.detector("train")),
        folds=f"{PROTOCOL}/train/folds.csv",
        model=f"{FOLD}/model/model.safetensors",
        about=f"{FOLD}/model/model.json",
    output:
        scores=f"{FOLD}/scores.csv",
        maps=f"{FOLD}/anomaly_maps.npy",
    log:
        log_of("score_fold"),
    benchmark:
        benchmark_of("score_fold")
    priority: 0
    message:
        "Scoring fold {wildcards.fold} of {wildcards.category} with {wildcards.detector}"


# `score` could make the calibration scores as well, if there were a calibration subset. These categories do
# not have one, so the rules below must come first.
ruleorder: gather_folds > score
ruleorder: leave_one_out > score


rule gather_folds:
    input:
        scores=INPUTS.folds("scores.csv"),
        maps=INPUTS.folds("anomaly_maps.npy"),
    output:
        scores=f"{DETECTOR}/calibration/scores.csv",
        maps=f"{DETECTOR}/calibration/anomaly_maps.npy",
    log:
        log_of("gather_folds"),
    benchmark:
        benchmark_of("gather_folds")
    wildcard_constraints:
        category=one_of(TARGETS.categories("cross")),
        detector=one_of(CONFIG.detectors),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000, 2),
        runtime=minutes(10),
    params:
        code=CODE.of("gather_folds.py"),
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
        log_of("leave_one_out"),
    benchmark:
        benchmark_of("leave_one_out")
    wildcard_constraints:
        category=one_of(TARGETS.categories("leave_one_out")),
        detector=one_of(CONFIG.detectors),
