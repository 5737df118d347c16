"""Pictures of every run, and the page that shows them."""


rule figures:
    input:
        images=f"{PROTOCOL}/test/images.npy",
        counted=counted("test"),
        masks=f"{PROTOCOL}/test/masks.npy",
        maps=f"{DETECTOR}/test/anomaly_maps.npy",
        calibration=f"{DETECTOR}/calibration/scores.csv",
        calibration_maps=f"{DETECTOR}/calibration/anomaly_maps.npy",
        predictions=f"{DETECTOR}/predictions.csv",
        metrics=f"{DETECTOR}/metrics.json",
        training=f"{DETECTOR}/training.csv",
        boxes=f"{DETECTOR}/test/boxes.csv",
        # stand in where there are no good test images
        split=f"{PROTOCOL}/split.csv",
        calibration_images=calibration_images,
        calibration_counted=calibration_counted,
    output:
        histogram=figure("histogram.svg", "histogram", "score histogram"),
        roc=figure("roc.svg", "roc", "ROC curve"),
        pr=figure("pr.svg", "pr", "precision and recall"),
        pro=figure("pro.svg", "pro", "PRO curve"),
        losses=figure("losses.svg", "losses", "losses"),
        gallery=figure("gallery.jpg", "gallery", "most wrong images"),
        png=expand(
            f"{DETECTOR}/figures/{{name}}.png",
            name=["histogram", "roc", "pr", "pro", "losses"],
            allow_missing=True,
        ),
        cases=directory(f"{DETECTOR}/figures/cases"),
    log:
        f"{LOGS}/figures/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/figures/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(1500, 4),
        runtime=minutes(20),
    params:
        options=options("report"),
        boxes=options("boxes"),
        unit=about_method("unit"),
        code=code("figures.py"),
    message:
        "Drawing {wildcards.detector} (seed {wildcards.seed}) on {wildcards.category}"
    script:
        "../scripts/figures.py"


# Only detectors that have something to show besides their maps.
rule pictures:
    input:
        unpack(detector_inputs("test")),
        test_images=f"{PROTOCOL}/test/images.npy",
        shown_counted=counted("test"),
        masks=f"{PROTOCOL}/test/masks.npy",
        maps=f"{DETECTOR}/test/anomaly_maps.npy",
        calibration_maps=f"{DETECTOR}/calibration/anomaly_maps.npy",
        predictions=f"{DETECTOR}/predictions.csv",
        threshold=f"{DETECTOR}/threshold.json",
        model=f"{DETECTOR}/model/model.safetensors",
        about=f"{DETECTOR}/model/model.json",
    output:
        figure("pictures.jpg", "pictures", "what the method sees"),
    log:
        f"{LOGS}/pictures/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/pictures/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.tsv"
    wildcard_constraints:
        detector=among(EXPLAINING),
    conda:
        ENVIRONMENT
    threads: share
    resources:
        gpu=a_gpu,
        mem_mb=memory(4000, 2),
        runtime=minutes(20),
    params:
        detector=detector_class,
        options=options("report"),
        code=detector_code("pictures.py"),
    message:
        "Looking through the eyes of {wildcards.detector} on {wildcards.category}"
    script:
        "../scripts/pictures.py"


rule report_page:
    input:
        metrics=runs("metrics.json"),
        training=runs("training.csv"),
        # stands for the folder of cases beside it, which would be compared by its time alone
        galleries=runs("figures/gallery.jpg"),
        pictures=pictures(),
        pairwise=f"{RESULTS}/comparison/pairwise.csv",
        wilcoxon=f"{RESULTS}/comparison/wilcoxon.csv",
        ranks=f"{RESULTS}/comparison/ranks.csv",
        sheets=contact_sheets(),
    output:
        page=report(
            f"{RESULTS}/report.html",
            caption="captions/report.rst",
            category="Report",
            labels={"page": "the whole report"},
        ),
        pages=directory(f"{RESULTS}/report"),
        critical_difference=comparison_figure("critical_difference", "mean ranks"),
        accuracy_cost=comparison_figure("accuracy_cost", "accuracy against cost"),
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{BENCHMARKS}/report.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(20),
    params:
        dataset=DATASET,
        benchmarks=BENCHMARKS,
        configuration=lambda wildcards: CONFIGURATION,
        code=code("report.py"),
        templates=templates("page.html.j2", "category.html.j2"),
    message:
        "Writing {output.page}"
    script:
        "../scripts/report.py"


rule log_to_mlflow:
    input:
        report=f"{RESULTS}/report.html",
        metrics=runs("metrics.json"),
        training=runs("training.csv"),
    output:
        f"{RESULTS}/mlflow.json",
    log:
        f"{LOGS}/log_to_mlflow.log",
    benchmark:
        f"{BENCHMARKS}/log_to_mlflow.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(20),
    params:
        dataset=DATASET,
        store=CONFIG.mlflow.store,
        code=code("log_to_mlflow.py"),
    message:
        "Logging the runs to MLflow"
    script:
        "../scripts/log_to_mlflow.py"
