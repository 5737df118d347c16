from flawline.logs import logged

with logged(snakemake.log[0]):
    from pathlib import Path

    from flawline.data.demo.draw import write_category
    from flawline.data.folder_digest import folder_digest
    from flawline.files import write_json

    folder = Path(snakemake.params.folder, snakemake.wildcards.category)
    options = {
        key: value for key, value in snakemake.params.options.items() if key not in ("kind", "name")
    }
    write_category(folder, folder.name, **options)
    digest = folder_digest(folder, Path(snakemake.output[0]).with_suffix(".hashes"))
    write_json(snakemake.output[0], {"content": digest, **options})
