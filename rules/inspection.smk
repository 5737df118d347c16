"""New images before a trained detector. It never trains, so it needs no file of another rule."""

if INSPECTION:

    rule inspect_images:
        output:
            table=f"{INSPECTION.results}/inspection.csv",
            page=f"{INSPECTION.results}/inspection.html",
            overlays=directory(f"{INSPECTION.results}/overlays"),
        log:
            f"{LAYOUT.logs}/inspect_images/{CONFIG.inspected.name}.log",
        benchmark:
            f"{LAYOUT.benchmarks}/inspect_images/{CONFIG.inspected.name}.tsv"
        conda:
            ENVIRONMENT
        threads: 4
        resources:
            gpu=RESOURCES.gpus,
            mem_mb=memory(4000),
            runtime=minutes(240),
        params:
            folder=lambda wildcards: INSPECTION.folder,
            content=INSPECTION.content,
            run=str(INSPECTION.run),
            trained=INSPECTION.trained,
            settings=INSPECTION.settings,
            about=INSPECTION.about,
            batch=INSPECTION.batch,
            # not an output: it survives every inspection, and Snakemake deletes outputs before a rerun
            history=f"{LAYOUT.inspections}/batches.csv",
            code=CODE.of("inspect_images.py", INSPECTION.module),
            templates=CODE.of_templates("inspection.html.j2", packages=("inspection", "report")),
        message:
            "Inspecting the images in {params.folder}"
        script:
            "../scripts/inspect_images.py"


rule inspect:
    input:
        inspection_table(INSPECTION),
    localrule: True
