"""Pictures of every run, and the page that shows them."""

FIGURE = partial(labels.figure, LAYOUT)


rule figures:
    input:
        images=f"{PROTOCOL}/test/images.npy",
        counted=INPUTS.counted("test"),
        masks=f"{PROTOCOL}/test/masks.npy",
        maps=f"{DETECTOR}/test/anomaly_maps.npy",
        calibration=f"{DETECTOR}/calibration/scores.csv",
        calibration_maps=f"{DETECTOR}/calibration/anomaly_maps.npy",
        predictions=f"{DETECTOR}/predictions.csv",
        metrics=f"{DETECTOR}/metrics.json",
        training=f"{DETECTOR}/training.csv",
        boxes=f"{DETECTOR}/test/boxes.csv",
        # shown if there are no good test images
        split=f"{PROTOCOL}/split.csv",
        calibration_images=INPUTS.calibration_images,
        calibration_counted=INPUTS.calibration_counted,
    output:
        histogram=FIGURE("histogram.svg", "histogram", "score histogram"),
        roc=FIGURE("roc.svg", "roc", "ROC curve"),
        pr=FIGURE("pr.svg", "pr", "precision and recall"),
        pro=FIGURE("pro.svg", "pro", "PRO curve"),
        losses=FIGURE("losses.svg", "losses", "losses"),
        gallery=FIGURE("gallery.jpg", "gallery", "most wrong images"),
        png=expand(
            f"{DETECTOR}/figures/{{name}}.png",
            name=["histogram", "roc", "pr", "pro", "losses"],
            allow_missing=True,
        ),
        pdf=expand(
            f"{DETECTOR}/figures/{{name}}.pdf",
            name=["histogram", "roc", "pr", "pro", "losses"],
            allow_missing=True,
        ),
        cases=directory(f"{DETECTOR}/figures/cases"),
        boxes=f"{DETECTOR}/image_boxes.csv",
    log:
        log_of("figures"),
    benchmark:
        benchmark_of("figures")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1500, 4),
        runtime=minutes(20),
    params:
        options=PARAMS.shown,
        boxes=PARAMS.section("boxes"),
        unit=PARAMS.of_detector("unit"),
        code=CODE.of("figures.py"),
    message:
        "Drawing {wildcards.detector} (seed {wildcards.seed}) on {wildcards.category}"
    script:
        "../scripts/figures.py"


# Only for detectors that can show more than their maps.
rule pictures:
    input:
        unpack(INPUTS.detector("test")),
        test_images=f"{PROTOCOL}/test/images.npy",
        shown_counted=INPUTS.counted("test"),
        masks=f"{PROTOCOL}/test/masks.npy",
        maps=f"{DETECTOR}/test/anomaly_maps.npy",
        calibration_maps=f"{DETECTOR}/calibration/anomaly_maps.npy",
        predictions=f"{DETECTOR}/predictions.csv",
        threshold=f"{DETECTOR}/threshold.json",
        model=f"{DETECTOR}/model/model.safetensors",
        about=f"{DETECTOR}/model/model.json",
    output:
        FIGURE("pictures.jpg", "pictures", "what the method sees"),
    log:
        log_of("pictures"),
    benchmark:
        benchmark_of("pictures")
    wildcard_constraints:
        detector=one_of(TARGETS.explaining),
    conda:
        ENVIRONMENT
    threads: RESOURCES.threads_of_many
    resources:
        gpu=RESOURCES.gpus,
        mem_mb=memory(4000, 2),
        runtime=minutes(20),
    params:
        detector=PARAMS.implementation,
        options=PARAMS.shown,
        boxes=PARAMS.section("boxes"),
        code=CODE.with_method("pictures.py"),
    message:
        "Drawing what {wildcards.detector} sees on {wildcards.category}"
    script:
        "../scripts/pictures.py"


rule report_page:
    input:
        metrics=TARGETS.runs("metrics.json"),
        training=TARGETS.runs("training.csv"),
        # stands for the folder of cases beside it, which Snakemake would compare by its time alone
        galleries=TARGETS.runs("figures/gallery.jpg"),
        pictures=TARGETS.pictures(),
        pairwise=f"{COMPARISON}/pairwise.csv",
        wilcoxon=f"{COMPARISON}/wilcoxon.csv",
        ranks=f"{COMPARISON}/ranks.csv",
        markdown=f"{COMPARISON}/tables.md",
        latex=f"{COMPARISON}/tables.tex",
        sheets=TARGETS.contact_sheets(),
        curves=TARGETS.learning_curves(),
    output:
        page=report(
            LAYOUT.report,
            caption="captions/report.rst",
            category="Report",
            labels={"page": "the whole report"},
        ),
        pages=directory(f"{RESULTS}/report"),
        critical_difference=labels.comparison_figure(LAYOUT, "critical_difference", "mean ranks"),
        cost=f"{COMPARISON}/cost.csv",
        accuracy_cost=labels.comparison_figure(LAYOUT, "accuracy_cost", "accuracy against cost"),
    log:
        f"{LAYOUT.logs}/report.log",
    benchmark:
        f"{LAYOUT.benchmarks}/report.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
        runtime=minutes(20),
    params:
        dataset=CONFIG.dataset.name,
        benchmarks=LAYOUT.benchmarks,
        configuration=PARAMS.configuration,
        code=CODE.of("report.py"),
        templates=CODE.of_templates("page.html.j2", "category.html.j2"),
        published=CODE.of_file("report/published.csv"),
    message:
        "Writing {output.page}"
    script:
        "../scripts/report.py"


rule log_to_mlflow:
    input:
        report=LAYOUT.report,
        metrics=TARGETS.runs("metrics.json"),
        training=TARGETS.runs("training.csv"),
    output:
        LAYOUT.mlflow,
    log:
        f"{LAYOUT.logs}/log_to_mlflow.log",
    benchmark:
        f"{LAYOUT.benchmarks}/log_to_mlflow.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000),
        runtime=minutes(20),
    params:
        dataset=CONFIG.dataset.name,
        store=CONFIG.mlflow.store,
        code=CODE.of("log_to_mlflow.py"),
    message:
        "Logging the runs to MLflow"
    script:
        "../scripts/log_to_mlflow.py"
