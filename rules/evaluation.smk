"""The first rules that see test labels and masks."""


rule near_duplicates:
    input:
        train=f"{PROTOCOL}/train/images.npy",
        calibration=INPUTS.held_back,
        test=f"{PROTOCOL}/test/images.npy",
    output:
        f"{PROTOCOL}/near_duplicates.csv",
    log:
        log_of("near_duplicates"),
    benchmark:
        benchmark_of("near_duplicates")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000, 1),
        runtime=minutes(20),
    params:
        code=CODE.of("near_duplicates.py"),
    message:
        "Looking for near-duplicates across the subsets of {wildcards.category}"
    script:
        "../scripts/near_duplicates.py"


# Cross-calibration: the drift check compares calibration images with good test images that the
# same model scored.
rule score_good_test_images:
    input:
        unpack(INPUTS.detector("test")),
        test_labels=f"{PROTOCOL}/test/labels.csv",
        model=f"{FOLD}/model/model.safetensors",
        about=f"{FOLD}/model/model.json",
    output:
        f"{FOLD}/good_test_scores.csv",
    log:
        log_of("score_good_test_images"),
    benchmark:
        benchmark_of("score_good_test_images")
    wildcard_constraints:
        detector=one_of(CONFIG.detectors),
    conda:
        ENVIRONMENT
    threads: RESOURCES.threads_of_many
    resources:
        gpu=RESOURCES.gpus,
        mem_mb=memory(4000, 1),
        runtime=minutes(60),
    params:
        detector=PARAMS.implementation,
        code=CODE.with_method("score_good_test_images.py"),
    message:
        "Scoring good test images of {wildcards.category} without fold {wildcards.fold}"
    script:
        "../scripts/score_good_test_images.py"


# Only if `calibration.seeds` asks for other draws of the calibration images: their thresholds and rates.
rule draws:
    input:
        unpack(INPUTS.drawn),
        split=f"{PROTOCOL}/split.csv",
    output:
        f"{DETECTOR}/draws.csv",
    log:
        log_of("draws"),
    benchmark:
        benchmark_of("draws")
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        gpu=RESOURCES.gpus,
        mem_mb=memory(3000, 5),
        runtime=minutes(600),
    params:
        detector=PARAMS.implementation,
        options=PARAMS.entry("detectors", "detector"),
        threshold=PARAMS.section("threshold"),
        seeds=PARAMS.value("calibration.seeds"),
        fraction=PARAMS.value("calibration.held_back"),
        code=CODE.with_method("draws.py"),
    message:
        "Training {wildcards.detector} on other draws of the good images of {wildcards.category}"
    script:
        "../scripts/draws.py"


# Only if `learning_curve.train_images` asks for it: how good a detector is with few good images.
rule learning_curve:
    input:
        unpack(INPUTS.learning_curve),
        labels=f"{PROTOCOL}/test/labels.csv",
        masks=f"{PROTOCOL}/test/masks.npy",
    output:
        f"{DETECTOR}/learning_curve.csv",
    log:
        log_of("learning_curve"),
    benchmark:
        benchmark_of("learning_curve")
    wildcard_constraints:
        detector=one_of(CONFIG.detectors),
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        gpu=RESOURCES.gpus,
        mem_mb=memory(3000, 5),
        runtime=minutes(600),
    params:
        detector=PARAMS.implementation,
        options=PARAMS.entry("detectors", "detector"),
        curve=plain(CONFIG.learning_curve),
        code=CODE.with_method("learning_curve.py"),
    message:
        "Training {wildcards.detector} on few good images of {wildcards.category}"
    script:
        "../scripts/learning_curve.py"


rule evaluate:
    input:
        labels=f"{PROTOCOL}/test/labels.csv",
        masks=f"{PROTOCOL}/test/masks.npy",
        counted=INPUTS.counted("test"),
        split=f"{PROTOCOL}/split.csv",
        problems=f"{CATEGORY}/problems.csv",
        near_duplicates=f"{PROTOCOL}/near_duplicates.csv",
        train=INPUTS.ranked,
        calibration=f"{DETECTOR}/calibration/scores.csv",
        folds=INPUTS.scored_folds,
        draws=INPUTS.draws,
        scores=f"{DETECTOR}/test/scores.csv",
        maps=f"{DETECTOR}/test/anomaly_maps.npy",
        threshold=f"{DETECTOR}/threshold.json",
        model=f"{DETECTOR}/model/model.json",
    output:
        metrics=f"{DETECTOR}/metrics.json",
        predictions=f"{DETECTOR}/predictions.csv",
        # rules before this one must not see names of test images: they tell the defect type
        scores=f"{DETECTOR}/image_scores.csv",
    log:
        log_of("evaluate"),
    benchmark:
        benchmark_of("evaluate")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000, 4),
        runtime=minutes(20),
    params:
        method=PARAMS.of_detector("method"),
        boundary=PARAMS.of_detector("boundary"),
        options=PARAMS.intervals,
        code=CODE.of("evaluate.py"),
    message:
        "Evaluating {wildcards.detector} (seed {wildcards.seed}) on {wildcards.category}"
    script:
        "../scripts/evaluate.py"


rule compare:
    input:
        metrics=TARGETS.runs("metrics.json"),
        predictions=TARGETS.runs("predictions.csv"),
    output:
        runs=labels.comparison_table(LAYOUT, "runs", "every run"),
        seeds=labels.comparison_table(LAYOUT, "over_seeds", "over seeds"),
        categories=labels.comparison_table(LAYOUT, "over_categories", "over categories"),
        best=f"{COMPARISON}/best.csv",
        pairwise=f"{COMPARISON}/pairwise.csv",
        wilcoxon=f"{COMPARISON}/wilcoxon.csv",
        ranks=f"{COMPARISON}/ranks.csv",
        markdown=f"{COMPARISON}/tables.md",
        latex=f"{COMPARISON}/tables.tex",
        configuration=f"{COMPARISON}/configuration.json",
    log:
        f"{LAYOUT.logs}/compare.log",
    benchmark:
        f"{LAYOUT.benchmarks}/compare.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        configuration=PARAMS.configuration,
        code=CODE.of("compare.py"),
    message:
        "Comparing detectors"
    script:
        "../scripts/compare.py"
