from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.evaluation.near_duplicates import near_duplicates
    from flawline.files import read_array, write_table

    # without held-back images there is no calibration subset
    images = {subset: read_array(path) for subset, path in snakemake.input.items() if path}
    write_table(snakemake.output[0], near_duplicates(images))
