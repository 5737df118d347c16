"""From a source of photographs to checked, split and prepared arrays."""

if CONFIG.dataset.kind == "demo":

    rule draw_demo:
        output:
            f"{DATA}/{{category}}.json",
        log:
            f"{LOGS}/draw_demo/{{category}}.log",
        benchmark:
            f"{BENCHMARKS}/draw_demo/{{category}}.tsv"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=memory(1000),
            runtime=minutes(10),
        params:
            folder=lambda wildcards: str(CONFIG.folder),
            options=plain(CONFIG.dataset),
            code=code("draw_demo.py"),
        message:
            "Drawing the demo photographs of {wildcards.category}"
        script:
            "../scripts/draw_demo.py"


if CONFIG.dataset.kind == "mvtec_ad" and not CONFIG.provided:

    rule download:
        output:
            f"{DATA}/archive.tar.xz",
        log:
            f"{LOGS}/download.log",
        benchmark:
            f"{BENCHMARKS}/download.tsv"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=memory(500),
            runtime=minutes(720),
        params:
            url=CONFIG.dataset.url,
            sha256=CONFIG.dataset.sha256,
        message:
            "Downloading MVTec AD (4.9 GB; an interrupted download goes on where it stopped)"
        script:
            "../scripts/download.py"

    rule unpack:
        input:
            f"{DATA}/archive.tar.xz",
        output:
            expand(f"{DATA}/{{category}}.json", category=CONFIG.category_names),
        log:
            f"{LOGS}/unpack.log",
        benchmark:
            f"{BENCHMARKS}/unpack.tsv"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=memory(500),
            runtime=minutes(120),
        params:
            folder=lambda wildcards: str(CONFIG.folder),
        message:
            "Unpacking MVTec AD"
        script:
            "../scripts/unpack.py"


rule index:
    input:
        made_data,
    output:
        index=f"{CATEGORY}/index.csv",
        problems=f"{CATEGORY}/problems.csv",
    log:
        f"{LOGS}/index/{{category}}.log",
    benchmark:
        f"{BENCHMARKS}/index/{{category}}.tsv"
    conda:
        ENVIRONMENT
    threads: share
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        dataset=plain(CONFIG.dataset),
        content=lambda wildcards: (
            CONFIG.dataset.digest(wildcards.category, HIDDEN / f"{DATASET}.json")
            if CONFIG.provided
            else ""
        ),
        options=options("data"),
        prepare=options("prepare"),
        code=code("index.py"),
    message:
        "Checking the images of {wildcards.category}"
    script:
        "../scripts/index.py"


rule split:
    input:
        f"{CATEGORY}/index.csv",
    output:
        split=f"{PROTOCOL}/split.csv",
        folds=f"{PROTOCOL}/train/folds.csv",
    log:
        f"{LOGS}/split/{{category}}.{{protocol}}.log",
    benchmark:
        f"{BENCHMARKS}/split/{{category}}.{{protocol}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=minutes(5),
    params:
        options=split_options,
        code=code("split.py"),
    message:
        "Splitting the images of {wildcards.category} ({wildcards.protocol})"
    script:
        "../scripts/split.py"


rule prepare:
    input:
        f"{PROTOCOL}/split.csv",
    output:
        images=f"{SUBSET}/images.npy",
        sizes=f"{SUBSET}/sizes.csv",
        geometry=f"{SUBSET}/geometry.json",
    log:
        f"{LOGS}/prepare/{{category}}.{{protocol}}.{{subset}}.log",
    benchmark:
        f"{BENCHMARKS}/prepare/{{category}}.{{protocol}}.{{subset}}.tsv"
    priority: train_first
    conda:
        ENVIRONMENT
    threads: share
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        folder=lambda wildcards: str(CONFIG.folder),
        max_megapixels=lambda wildcards: CONFIG.of(wildcards.category).data.max_megapixels,
        white=lambda wildcards: CONFIG.of(wildcards.category).data.white,
        options=options("prepare"),
        regions=region_options,
        code=code("prepare.py"),
    message:
        "Preparing the {wildcards.subset} images of {wildcards.category}"
    script:
        "../scripts/prepare.py"


# Only where a category is tiled: what its networks see.
rule tiles:
    input:
        f"{PROTOCOL}/split.csv",
    output:
        tiles=f"{SUBSET}/tiles.npy",
        about=f"{SUBSET}/tiles.json",
    log:
        f"{LOGS}/tiles/{{category}}.{{protocol}}.{{subset}}.log",
    benchmark:
        f"{BENCHMARKS}/tiles/{{category}}.{{protocol}}.{{subset}}.tsv"
    priority: train_first
    conda:
        ENVIRONMENT
    threads: share
    resources:
        mem_mb=memory(3000),
        runtime=minutes(60),
    params:
        folder=lambda wildcards: str(CONFIG.folder),
        max_megapixels=lambda wildcards: CONFIG.of(wildcards.category).data.max_megapixels,
        white=lambda wildcards: CONFIG.of(wildcards.category).data.white,
        options=options("prepare"),
        regions=region_options,
        code=code("tiles.py"),
    message:
        "Cutting the {wildcards.subset} images of {wildcards.category} into tiles"
    script:
        "../scripts/tiles.py"


# Only where some pixels do not count: those of ignored regions and of letterbox bars.
rule counted:
    input:
        f"{PROTOCOL}/split.csv",
    output:
        f"{SUBSET}/counted.npy",
    log:
        f"{LOGS}/counted/{{category}}.{{protocol}}.{{subset}}.log",
    benchmark:
        f"{BENCHMARKS}/counted/{{category}}.{{protocol}}.{{subset}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        options=options("prepare"),
        regions=region_options,
        code=code("counted.py"),
    message:
        "Marking what counts of the {wildcards.subset} images of {wildcards.category}"
    script:
        "../scripts/counted.py"


rule ground_truth:
    input:
        f"{PROTOCOL}/split.csv",
    output:
        labels=f"{PROTOCOL}/test/labels.csv",
        masks=f"{PROTOCOL}/test/masks.npy",
    log:
        f"{LOGS}/ground_truth/{{category}}.{{protocol}}.log",
    benchmark:
        f"{BENCHMARKS}/ground_truth/{{category}}.{{protocol}}.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        folder=lambda wildcards: str(CONFIG.folder),
        max_megapixels=lambda wildcards: CONFIG.of(wildcards.category).data.max_megapixels,
        options=options("prepare"),
        code=code("ground_truth.py"),
    message:
        "Preparing the test labels and masks of {wildcards.category}"
    script:
        "../scripts/ground_truth.py"


rule train_labels:
    input:
        f"{CATEGORY}/supervised/split.csv",
    output:
        f"{CATEGORY}/supervised/train/labels.csv",
    log:
        f"{LOGS}/train_labels/{{category}}.log",
    benchmark:
        f"{BENCHMARKS}/train_labels/{{category}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=minutes(5),
    params:
        code=code("train_labels.py"),
    message:
        "Writing the training labels of {wildcards.category}"
    script:
        "../scripts/train_labels.py"
