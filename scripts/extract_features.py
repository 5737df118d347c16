from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.devices import choose_device
    from flawline.features.extraction import extract
    from flawline.files import read_array
    from flawline.provenance import file_hash

    extract(
        read_array(snakemake.input.images),
        snakemake.output.features,
        device=choose_device(snakemake.resources.gpu, snakemake.threads),
        images_hash=file_hash(snakemake.input.images),
        **snakemake.params.options,
    )
