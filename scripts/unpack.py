from flawline.logs import logged

with logged(snakemake.log[0]):
    import shutil
    from pathlib import Path

    from flawline.data.archive import extract
    from flawline.data.folder_digest import folder_digest
    from flawline.files import write_json

    folder = Path(snakemake.params.folder)
    categories = [Path(stamp).stem for stamp in snakemake.output]
    shutil.rmtree(folder, ignore_errors=True)
    extract(Path(snakemake.input[0]), folder, expect=categories)
    for stamp in map(Path, snakemake.output):
        digest = folder_digest(folder / stamp.stem, stamp.with_suffix(".hashes"))
        write_json(stamp, {"content": digest})
