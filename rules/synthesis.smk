"""Object masks, and synthetic anomalies made from good training images."""


rule object_model:
    input:
        images=f"{PROTOCOL}/train/images.npy",
        counted=counted("train"),
    output:
        background=f"{PROTOCOL}/object_masks/background.npy",
        about=f"{PROTOCOL}/object_masks/model.json",
    log:
        f"{LOGS}/object_model/{{category}}.{{protocol}}.log",
    benchmark:
        f"{BENCHMARKS}/object_model/{{category}}.{{protocol}}.tsv"
    wildcard_constraints:
        protocol="unsupervised",  # supervised training images show defects
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(3000, 2),
        runtime=minutes(20),
    params:
        options=options("object_masks"),
        code=code("object_model.py"),
    message:
        "Learning where the object is in {wildcards.category}"
    script:
        "../scripts/object_model.py"


rule object_masks:
    input:
        images=f"{SUBSET}/images.npy",
        counted=counted("{subset}"),
        background=f"{PROTOCOL}/object_masks/background.npy",
        about=f"{PROTOCOL}/object_masks/model.json",
    output:
        f"{SUBSET}/object_masks.npy",
    log:
        f"{LOGS}/object_masks/{{category}}.{{protocol}}.{{subset}}.log",
    benchmark:
        f"{BENCHMARKS}/object_masks/{{category}}.{{protocol}}.{{subset}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(1000, 2),
        runtime=minutes(20),
    params:
        options=options("object_masks"),
        code=code("object_masks.py"),
    message:
        "Masking the object in {wildcards.category}, {wildcards.subset}"
    script:
        "../scripts/object_masks.py"


rule synthesize:
    input:
        images=seen("train"),
        object_masks=f"{PROTOCOL}/train/object_masks.npy",
        counted=counted("train"),
        geometry=f"{PROTOCOL}/train/geometry.json",
        cutouts=cutouts,
    output:
        images=f"{PROTOCOL}/synthetic/{{synthetic}}/images.npy",
        masks=f"{PROTOCOL}/synthetic/{{synthetic}}/masks.npy",
        index=f"{PROTOCOL}/synthetic/{{synthetic}}/index.csv",
        sheet=report(
            f"{PROTOCOL}/synthetic/{{synthetic}}/contact_sheet.png",
            caption="captions/contact_sheet.rst",
            category="{category}",
            subcategory="synthetic anomalies",
            labels={"figure": "contact sheet", "set": "{synthetic}"},
        ),
    log:
        f"{LOGS}/synthesize/{{category}}.{{protocol}}.{{synthetic}}.log",
    benchmark:
        f"{BENCHMARKS}/synthesize/{{category}}.{{protocol}}.{{synthetic}}.tsv"
    conda:
        ENVIRONMENT
    threads: share
    resources:
        mem_mb=memory(2000, 4),
        runtime=minutes(60),
    params:
        seed=lambda wildcards: CONFIG.of(wildcards.category).synthetic_seed,
        options=entry("synthetic", "synthetic"),
        code=code("synthesize.py"),
    message:
        "Making the synthetic anomalies {wildcards.synthetic} of {wildcards.category}"
    script:
        "../scripts/synthesize.py"


rule pose:
    input:
        images=seen("train"),
        object_masks=f"{PROTOCOL}/train/object_masks.npy",
        counted=counted("train"),
        geometry=f"{PROTOCOL}/train/geometry.json",
    output:
        images=f"{POSED}/images.npy",
        counted=f"{POSED}/counted.npy",
    log:
        f"{LOGS}/pose/{{category}}.{{protocol}}.{{poses}}.log",
    benchmark:
        f"{BENCHMARKS}/pose/{{category}}.{{protocol}}.{{poses}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(2000, 4),
        runtime=minutes(30),
    params:
        options=entry("poses", "poses"),
        code=code("pose.py"),
    message:
        "Turning the training images of {wildcards.category} to {wildcards.poses}"
    script:
        "../scripts/pose.py"
