"""Pictures of every run, and the page that shows them."""


def templates_hash():
    folder = Path(workflow.basedir, "flawline", "report", "templates")
    return [file_hash(path) for path in sorted(folder.glob("*"))]


def figure(file, caption, label):
    return report(
        f"{DETECTOR}/figures/{file}",
        caption=f"captions/{caption}.rst",
        category="{category}",
        subcategory="{detector}",
        labels={"figure": label, "seed": "{seed}"},
    )


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
    params:
        options=options("report"),
        code=code("figures.py"),
    threads: 1
    resources:
        mem_mb=1500,
        runtime=20,
    conda:
        "../envs/flawline.yaml"
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
    params:
        dataset=DATASET,
        code=code("report.py"),
        templates=templates_hash(),
    threads: 1
    resources:
        mem_mb=1500,
        runtime=20,
    conda:
        "../envs/flawline.yaml"
    message:
        "Writing {output}"
    script:
        "../scripts/report.py"
