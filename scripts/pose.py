from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.detectors.data import Data
    from flawline.options.poses import Poses
    from flawline.synthesis.poses import pose_images

    data = Data.open(dict(snakemake.input.items()))
    seen = data.geometry.seen
    pose_images(
        data.images,
        data.cut(data.object_masks, seen),
        snakemake.output.images,
        snakemake.output.counted,
        Poses.model_validate(snakemake.params.options),
        snakemake.wildcards.category,
        None if data.counted is None else data.cut(data.counted, seen),
    )
