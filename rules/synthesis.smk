"""Object masks, and synthetic anomalies made from good training images."""


rule object_model:
    input:
        images=f"{PROTOCOL}/train/images.npy",
        counted=INPUTS.counted("train"),
    output:
        background=f"{PROTOCOL}/object_masks/background.npy",
        about=f"{PROTOCOL}/object_masks/model.json",
    log:
        log_of("object_model"),
    benchmark:
        benchmark_of("object_model")
    wildcard_constraints:
        protocol="unsupervised",  # supervised training images show defects
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(3000, 2),
        runtime=minutes(20),
    params:
        options=PARAMS.section("object_masks"),
        code=CODE.of("object_model.py"),
    message:
        "Learning where the object is in {wildcards.category}"
    script:
        "../scripts/object_model.py"


rule object_masks:
    input:
        images=f"{SUBSET}/images.npy",
        counted=INPUTS.counted("{subset}"),
        background=f"{PROTOCOL}/object_masks/background.npy",
        about=f"{PROTOCOL}/object_masks/model.json",
    output:
        f"{SUBSET}/object_masks.npy",
    log:
        log_of("object_masks"),
    benchmark:
        benchmark_of("object_masks")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000, 2),
        runtime=minutes(20),
    params:
        options=PARAMS.section("object_masks"),
        code=CODE.of("object_masks.py"),
    message:
        "Masking the object in {wildcards.category}, {wildcards.subset}"
    script:
        "../scripts/object_masks.py"


rule synthesize:
    input:
        images=INPUTS.seen("train"),
        object_masks=f"{PROTOCOL}/train/object_masks.npy",
        counted=INPUTS.counted("train"),
        geometry=f"{PROTOCOL}/train/geometry.json",
        cutouts=INPUTS.cutouts,
    output:
        images=f"{SYNTHETIC}/images.npy",
        masks=f"{SYNTHETIC}/masks.npy",
        index=f"{SYNTHETIC}/index.csv",
        sheet=report(
            f"{SYNTHETIC}/contact_sheet.png",
            caption="captions/contact_sheet.rst",
            category="{category}",
            subcategory="synthetic anomalies",
            labels={"figure": "contact sheet", "set": "{synthetic}"},
        ),
    log:
        log_of("synthesize"),
    benchmark:
        benchmark_of("synthesize")
    conda:
        ENVIRONMENT
    threads: RESOURCES.threads_of_many
    resources:
        mem_mb=memory(2000, 4),
        runtime=minutes(60),
    params:
        seed=PARAMS.value("synthetic_seed"),
        options=PARAMS.entry("synthetic", "synthetic"),
        code=CODE.of("synthesize.py"),
    message:
        "Making the synthetic anomalies {wildcards.synthetic} of {wildcards.category}"
    script:
        "../scripts/synthesize.py"


rule pose:
    input:
        images=INPUTS.seen("train"),
        object_masks=f"{PROTOCOL}/train/object_masks.npy",
        counted=INPUTS.counted("train"),
        geometry=f"{PROTOCOL}/train/geometry.json",
    output:
        images=f"{POSED}/images.npy",
        counted=f"{POSED}/counted.npy",
    log:
        log_of("pose"),
    benchmark:
        benchmark_of("pose")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000, 4),
        runtime=minutes(30),
    params:
        options=PARAMS.entry("poses", "poses"),
        code=CODE.of("pose.py"),
    message:
        "Turning the training images of {wildcards.category} to {wildcards.poses}"
    script:
        "../scripts/pose.py"
