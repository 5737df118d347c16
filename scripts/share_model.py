from flawline.logs import logged

with logged(snakemake.log[0]):
    from shutil import copyfile

    for name, file in snakemake.input.items():
        copyfile(file, snakemake.output[name])
