from flawline.logs import logged

with logged(snakemake.log[0]) as log:
    from pathlib import Path

    from flawline.data.datasets.mvtec_ad import LICENCE
    from flawline.data.download import download

    log.warning("%s", LICENCE)
    # kept beside the output under another name: an interrupted download must survive the job
    kept = Path(snakemake.output[0]).with_name("download")
    download(snakemake.params.url, kept, sha256=snakemake.params.sha256)
    kept.rename(snakemake.output[0])
