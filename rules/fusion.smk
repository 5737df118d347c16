"""Several detectors as one: these rules make for a fusion the files that other rules make for a detector."""


rule fuse:
    input:
        scores=INPUTS.members("calibration/scores.csv"),
        maps=INPUTS.members("calibration/anomaly_maps.npy"),
        about=INPUTS.members("model/model.json"),
    output:
        threshold=f"{DETECTOR}/threshold.json",
        about=f"{DETECTOR}/model/model.json",
        log=f"{DETECTOR}/training.csv",
    log:
        log_of("fuse"),
    benchmark:
        benchmark_of("fuse")
    wildcard_constraints:
        detector=one_of(CONFIG.fusion),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000, 2),
        runtime=minutes(10),
    params:
        options=PARAMS.fusion,
        costs=PARAMS.costs,
        mode=PARAMS.value("calibration.mode"),
        folds=PARAMS.fold_count,
        code=CODE.of("fuse.py"),
    message:
        "Setting the threshold of {wildcards.detector} for {wildcards.category}"
    script:
        "../scripts/fuse.py"


rule fuse_scores:
    input:
        scores=INPUTS.members("{subset}/scores.csv"),
        maps=INPUTS.members("{subset}/anomaly_maps.npy"),
        about=f"{DETECTOR}/model/model.json",
    output:
        scores=f"{DETECTOR}/{{subset}}/scores.csv",
        maps=f"{DETECTOR}/{{subset}}/anomaly_maps.npy",
    log:
        log_of("fuse_scores"),
    benchmark:
        benchmark_of("fuse_scores")
    wildcard_constraints:
        detector=one_of(CONFIG.fusion),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000, 2),
        runtime=minutes(10),
    params:
        detectors=PARAMS.members,
        code=CODE.of("fuse_scores.py"),
    message:
        "Scoring {wildcards.category}, {wildcards.subset}, with {wildcards.detector}"
    script:
        "../scripts/fuse_scores.py"


use rule fuse_scores as fuse_good_test_images with:
    input:
        scores=INPUTS.members("folds/{fold}/good_test_scores.csv"),
        about=f"{DETECTOR}/model/model.json",
    output:
        scores=f"{FOLD}/good_test_scores.csv",
    log:
        log_of("fuse_good_test_images"),
    benchmark:
        benchmark_of("fuse_good_test_images")
    message:
        "Scoring good test images of {wildcards.category} without fold {wildcards.fold}"
