"""Pictures of every run, and the page that shows them."""


rule figures:
    input:
        images=f"{PROTOCOL}/test/images.npy",
        masks=f"{PROTOCOL}/test/masks.npy",
        maps=f"{DETECTOR}/test/anomaly_maps.npy",
        calibration=f"{DETECTOR}/calibration/scores.csv",
        calibration_maps=f"{DETECTOR}/calibration/anomaly_maps.npy",
        predictions=f"{DETECTOR}/predictions.csv",
        threshold=f"{DETECTOR}/threshold.json",
    output:
        histogram=figure("histogram.svg", "histogram", "score histogram"),
        roc=figure("roc.svg", "roc", "ROC curve"),
        gallery=figure("gallery.jpg", "gallery", "most wrong images"),
        cases=f"{DETECTOR}/figures/cases.json",
    log:
        f"{LOGS}/figures/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/figures/{{category}}.{{protocol}}.{{detector}}.seed{{seed}}.tsv"
    conda:
        "../envs/flawline.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=20,
    params:
        options=options("report"),
        code=code("figures.py"),
    message:
        "Drawing {wildcards.detector} (seed {wildcards.seed}) on {wildcards.category}"
    script:
        "../scripts/figures.py"


rule report_page:
    input:
        metrics=runs("metrics.json"),
        histograms=runs("figures/histogram.svg"),
        rocs=runs("figures/roc.svg"),
        galleries=runs("figures/gallery.jpg"),
        cases=runs("figures/cases.json"),
        comparison=f"{RESULTS}/comparison/runs.csv",
        sheets=contact_sheets(),
    output:
        report(
            f"{RESULTS}/report.html",
            caption="captions/report.rst",
            category="Report",
            labels={"page": "the whole report"},
        ),
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{BENCHMARKS}/report.tsv"
    conda:
        "../envs/flawline.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=20,
    params:
        dataset=DATASET,
        code=code("report.py"),
        templates=templates_hash(),
    message:
        "Writing {output}"
    script:
        "../scripts/report.py"
