"""New images before a trained detector. Never trains, so no rule of the line is asked for it."""

if CONFIG.inspected:

    rule inspect_images:
        output:
            table=f"{INSPECTION}/inspection.csv",
            page=f"{INSPECTION}/inspection.html",
            overlays=directory(f"{INSPECTION}/overlays"),
        log:
            f"{LOGS}/inspect_images/{CONFIG.inspected.name}.log",
        benchmark:
            f"{BENCHMARKS}/inspect_images/{CONFIG.inspected.name}.tsv"
        conda:
            ENVIRONMENT
        threads: 4
        resources:
            gpu=a_gpu,
            mem_mb=4000,
            runtime=240,
        params:
            folder=lambda wildcards: CONFIG.inspected.folder,
            content=new_images,
            run=str(inspected_run()),
            trained=trained_digest,
            settings=inspection_settings(),
            about=about_inspection(),
            batch=inspected_batch(),
            # no output: it outlives every inspection, and Snakemake deletes outputs before a rerun
            history=f"{RESULTS}/inspection/batches.csv",
            code=code("inspect_images.py", inspected_method()),
            templates=templates("inspection.html.j2", rooms=("inspection", "report")),
        message:
            "Inspecting the images in {params.folder}"
        script:
            "../scripts/inspect_images.py"


rule inspect:
    input:
        inspection_files,
    localrule: True
