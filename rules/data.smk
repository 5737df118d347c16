"""From a source of photographs to checked, split and prepared arrays."""

if CONFIG.dataset.kind == "demo":

    rule draw_demo:
        output:
            f"{DATA}/{{category}}.json",
        log:
            log_of("draw_demo"),
        benchmark:
            benchmark_of("draw_demo")
        conda:
            ENVIRONMENT
        resources:
            mem_mb=memory(1000),
            runtime=minutes(10),
        params:
            folder=PARAMS.folder,
            options=plain(CONFIG.dataset),
            code=CODE.of("draw_demo.py"),
        message:
            "Drawing the demo photographs of {wildcards.category}"
        script:
            "../scripts/draw_demo.py"


# Without `code`: the download is checked against its SHA-256, and unpacked files against the hashes in the
# stamps, so changed code need not fetch 4.9 GB again.
if CONFIG.dataset.kind == "mvtec_ad" and not CONFIG.provided:

    rule download:
        output:
            f"{DATA}/archive.tar.xz",
        log:
            f"{LAYOUT.logs}/download.log",
        benchmark:
            f"{LAYOUT.benchmarks}/download.tsv"
        conda:
            ENVIRONMENT
        resources:
            mem_mb=memory(500),
            runtime=minutes(720),
        params:
            url=CONFIG.dataset.url,
            sha256=CONFIG.dataset.sha256,
        message:
            "Downloading MVTec AD (4.9 GB; an interrupted download continues where it stopped)"
        script:
            "../scripts/download.py"

    rule unpack:
        input:
            f"{DATA}/archive.tar.xz",
        output:
            expand(f"{DATA}/{{category}}.json", category=CONFIG.category_names),
        log:
            f"{LAYOUT.logs}/unpack.log",
        benchmark:
            f"{LAYOUT.benchmarks}/unpack.tsv"
        conda:
            ENVIRONMENT
        resources:
            mem_mb=memory(500),
            runtime=minutes(120),
        params:
            folder=PARAMS.folder,
        message:
            "Unpacking MVTec AD"
        script:
            "../scripts/unpack.py"


rule index:
    input:
        INPUTS.made_data,
    output:
        index=f"{CATEGORY}/index.csv",
        problems=f"{CATEGORY}/problems.csv",
    log:
        log_of("index"),
    benchmark:
        benchmark_of("index")
    conda:
        ENVIRONMENT
    threads: RESOURCES.threads_of_many
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        dataset=plain(CONFIG.dataset),
        content=PARAMS.photographs(HIDDEN / f"{CONFIG.dataset.name}.json"),
        options=PARAMS.section("data"),
        prepare=PARAMS.section("prepare"),
        code=CODE.of("index.py"),
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
        log_of("split"),
    benchmark:
        benchmark_of("split")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=minutes(5),
    params:
        options=PARAMS.split,
        code=CODE.of("split.py"),
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
        log_of("prepare"),
    benchmark:
        benchmark_of("prepare")
    priority: train_first
    conda:
        ENVIRONMENT
    threads: RESOURCES.threads_of_many
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        folder=PARAMS.folder,
        max_megapixels=PARAMS.value("data.max_megapixels"),
        white=PARAMS.value("data.white"),
        options=PARAMS.section("prepare"),
        regions=PARAMS.regions,
        code=CODE.of("prepare.py"),
    message:
        "Preparing the {wildcards.subset} images of {wildcards.category}"
    script:
        "../scripts/prepare.py"


# Only if a category is tiled: what its networks see.
rule tiles:
    input:
        f"{PROTOCOL}/split.csv",
    output:
        tiles=f"{SUBSET}/tiles.npy",
        about=f"{SUBSET}/tiles.json",
    log:
        log_of("tiles"),
    benchmark:
        benchmark_of("tiles")
    priority: train_first
    conda:
        ENVIRONMENT
    threads: RESOURCES.threads_of_many
    resources:
        mem_mb=memory(3000),
        runtime=minutes(60),
    params:
        folder=PARAMS.folder,
        max_megapixels=PARAMS.value("data.max_megapixels"),
        white=PARAMS.value("data.white"),
        options=PARAMS.section("prepare"),
        regions=PARAMS.regions,
        code=CODE.of("tiles.py"),
    message:
        "Cutting the {wildcards.subset} images of {wildcards.category} into tiles"
    script:
        "../scripts/tiles.py"


# Only if some pixels do not count: those of ignored regions and of letterbox bars.
rule counted:
    input:
        f"{PROTOCOL}/split.csv",
    output:
        f"{SUBSET}/counted.npy",
    log:
        log_of("counted"),
    benchmark:
        benchmark_of("counted")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        options=PARAMS.section("prepare"),
        regions=PARAMS.regions,
        code=CODE.of("counted.py"),
    message:
        "Marking counted pixels of the {wildcards.subset} images of {wildcards.category}"
    script:
        "../scripts/counted.py"


rule ground_truth:
    input:
        f"{PROTOCOL}/split.csv",
    output:
        labels=f"{PROTOCOL}/test/labels.csv",
        masks=f"{PROTOCOL}/test/masks.npy",
    log:
        log_of("ground_truth"),
    benchmark:
        benchmark_of("ground_truth")
    conda:
        ENVIRONMENT
    threads: 2  # there is one job, without a network: reading masks gains little from more
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        folder=PARAMS.folder,
        max_megapixels=PARAMS.value("data.max_megapixels"),
        options=PARAMS.section("prepare"),
        code=CODE.of("ground_truth.py"),
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
        log_of("train_labels"),
    benchmark:
        benchmark_of("train_labels")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=minutes(5),
    params:
        code=CODE.of("train_labels.py"),
    message:
        "Writing the training labels of {wildcards.category}"
    script:
        "../scripts/train_labels.py"
