"""The validated configuration, and what the rules derive from it."""

import csv
import fcntl
import gc
import json
import os
import re
import shutil
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from flawline.config import load_config
from flawline.options.base import plain
from flawline.data.folder_digest import folder_digest
from flawline.devices import has_cuda
from flawline.errors import FlawlineError
from flawline.options.threshold import COSTS
from flawline.workflow.check_backbones import check_features
from flawline.features.store import STORE
from flawline.files import given_path, is_folder
from flawline.logs import OUT_OF_MEMORY, each_cause_once, last_error
from flawline.memory import what_to_lower
from flawline.provenance import code_fingerprint, file_hash, templates_fingerprint
from snakemake.iocontainers import Wildcards

# Planning makes millions of small objects that stay: looking through them for garbage every 700 new
# ones costs a tenth of its time.
gc.set_threshold(100_000, 50, 50)


# Where this workflow lies, whether it is the main one or a module of another.
SOURCE = Path(workflow.current_basedir).parent

# Where the environment's post-deploy script finds the package, whatever the working directory is.
os.environ.update(FLAWLINE_SOURCE=str(SOURCE))
ENVIRONMENT = f"../envs/{os.environ.get('FLAWLINE_ENV', 'flawline')}.yaml"


def elsewhere():
    """Whether jobs run on other machines than this one, or this is such a machine."""
    return workflow.remote_exec or not workflow.local_exec


def a_gpu(wildcards):
    """A GPU where there may be one. Where there is none, the limit must not keep jobs waiting."""
    return int(elsewhere() or GPU_HERE)


def share(wildcards):
    """Threads of jobs of which several are ready at once: on few cores they do best side by side."""
    return 4 if elsewhere() else min(max((workflow.resource_settings.cores or 1) // 4, 1), 4)


def train_first(wildcards):
    """Priority of jobs that there are for every subset: most wait for the largest, train."""
    return int(wildcards.subset == "train")


def validated(given):
    if set("{}") & set(str(SOURCE)):
        raise WorkflowError(
            f"Move flawline out of {SOURCE}: Snakemake takes braces in a path for a "
            "placeholder."
        )
    origin = ", ".join(map(str, workflow.configfiles)) or "--config"
    try:
        checked = load_config(given, origin)
        check_features(checked, origin, cache=HIDDEN / "backbones.json")
    except FlawlineError as error:
        raise WorkflowError(str(error)) from None
    if workflow.is_main_process:
        for folder in checked.left_out:
            print(f"Left out: {folder}", file=sys.stderr)
    return checked


HIDDEN = Path(".snakemake/flawline")
GPU_HERE = has_cuda()


def unlock_after_a_kill():
    """Remove Snakemake's locks if no other Snakemake is at work here: a killed one left them.

    That this one is at work shows a lock of the operating system, which ends with the process.
    """
    HIDDEN.mkdir(parents=True, exist_ok=True)
    handle = os.open(HIDDEN / "lock", os.O_RDWR | os.O_CREAT)  # stays open
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(".snakemake/locks", ignore_errors=True)
    except BlockingIOError:
        if os.path.isdir(".snakemake/locks"):
            print(
                "Another run is at work in this folder: wait until it ends (with --unlock both "
                "would write the same files).",
                file=sys.stderr,
            )
    fcntl.flock(handle, fcntl.LOCK_SH)


if workflow.is_main_process:
    with suppress(OSError):  # a file system without locks, or one that cannot be written
        unlock_after_a_kill()

CONFIG = validated(config)
# as text: Snakemake compares params in the order of their keys
CONFIGURATION = json.dumps(CONFIG.model_dump(mode="json", exclude={"inspect"}), sort_keys=True)
DATASET = CONFIG.dataset.name
DATA = f"data/{DATASET}"
RESULTS = f"results/{DATASET}"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
CATEGORY = f"{RESULTS}/{{category}}"
PROTOCOL = f"{CATEGORY}/{{protocol}}"
SUBSET = f"{PROTOCOL}/{{subset}}"
DETECTOR = f"{PROTOCOL}/detectors/{{detector}}/seed{{seed}}"
INSPECTION = f"{RESULTS}/inspection/{CONFIG.inspected.name}" if CONFIG.inspected else None
FOLD = f"{DETECTOR}/folds/{{fold}}"
POSED = f"{PROTOCOL}/train/poses/{{poses}}"
PROTOCOLS = ["unsupervised", "supervised"]
CROSS, LEAVING = (
    [name for name in CONFIG.category_names if CONFIG.of(name).calibration.mode == mode]
    for mode in ("cross", "leave_one_out")
)
UNSPLIT = CROSS + LEAVING
EXPLAINING = [
    name
    for name in CONFIG.detectors
    if any(CONFIG.of(category).detectors[name].explains for category in CONFIG.category_names)
]


wildcard_constraints:
    category="|".join(map(re.escape, CONFIG.category_names)),
    protocol="|".join(PROTOCOLS),
    subset="train|calibration|test",
    features="|".join(map(re.escape, CONFIG.features)) or "none",
    synthetic="|".join(map(re.escape, CONFIG.synthetic)) or "none",
    poses="|".join(map(re.escape, CONFIG.poses)) or "none",
    detector="|".join(map(re.escape, [*CONFIG.detectors, *CONFIG.fusion])),
    seed=r"\d+",
    fold=r"\d+",


def memory(base, per_input=0):
    """Megabytes of a job: more for larger inputs, and more with every attempt."""

    def mem_mb(wildcards, input, attempt):
        # inputs that the same group of jobs makes are not there yet
        sizes = [Path(file).stat().st_size for file in input if Path(file).is_file()]
        return attempt * (base + per_input * sum(sizes) // 2**20)

    return mem_mb


def minutes(base):
    """Run time of a job: more with every attempt."""
    return lambda wildcards, attempt: attempt * base


@cache
def code(script, *modules):
    """Content hash of a script and of all that it imports."""
    return code_fingerprint(SOURCE / "scripts" / script, *modules)


def options(section):
    """A section of the category's configuration, as a rule's params."""
    return lambda wildcards: plain(getattr(CONFIG.of(wildcards.category), section))


def entry(section, wildcard):
    """One named entry of a section of the category's configuration, as a rule's params."""
    return lambda wildcards: plain(
        getattr(CONFIG.of(wildcards.category), section)[wildcards[wildcard]]
    )


def split_options(wildcards):
    """What the split of a protocol depends on, as a rule's params."""
    chosen = CONFIG.of(wildcards.category)
    parts = {
        "fraction": chosen.calibration.held_back,
        "folds": chosen.calibration.fold_count,
    }
    if wildcards.protocol == "supervised":
        parts["test_fraction"] = chosen.supervised.test_fraction
        parts["test_seed"] = chosen.supervised.seed
    found = plain(chosen.calibration, **parts)
    found.pop("seeds")
    return found


def detector_options(wildcards):
    return CONFIG.of(wildcards.category).detectors[wildcards.detector]


def used_poses(wildcards):
    """The options of the poses that the detector knows the goods in."""
    chosen = detector_options(wildcards).pose_set
    return plain(CONFIG.of(wildcards.category).poses[chosen]) if chosen else None


def about_method(name):
    """What the wildcard's detector is, of its method or, if it is a fusion of several, of that."""

    def about(wildcards):
        fused = CONFIG.fusion.get(wildcards.detector)
        return getattr(fused or detector_options(wildcards), name)

    return about


def members(file):
    """A file of every detector of a fusion."""
    return lambda wildcards: [
        f"{DETECTOR}/{file}".format(**dict(wildcards) | {"detector": name})
        for name in CONFIG.fusion[wildcards.detector].detectors
    ]


def given_costs(wildcards):
    """Costs and defect rate of the category, where its threshold rule names them."""
    chosen = plain(CONFIG.of(wildcards.category).threshold)
    return {key: chosen[key] for key in COSTS} if chosen["rule"] == "cost" else {}


def fold_count(wildcards):
    """How many models made the calibration scores; None where it was the one in use."""
    if wildcards.category in CROSS:
        return CONFIG.of(wildcards.category).calibration.fold_count
    return None


def detector_class(wildcards):
    """Where the detector's class is, as `module:name`."""
    return detector_options(wildcards).implementation


def detector_code(script):
    """Content hash of a script together with the method of the wildcard's detector."""
    return lambda wildcards: code(script, detector_options(wildcards).implementation.split(":")[0])


def used_object_masks(wildcards):
    """The options of the object masks, where the detector's image score needs them."""
    chosen = detector_options(wildcards)
    if "object_masks" not in chosen.inputs(training=False):
        return None
    return plain(CONFIG.of(wildcards.category).object_masks)


def seen(subset):
    """What networks see of a subset: its images, or their tiles."""
    return lambda wildcards: (
        f"{SUBSET}/tiles.npy"
        if CONFIG.of(wildcards.category).prepare.tiles
        else f"{SUBSET}/images.npy"
    ).format(**dict(wildcards) | {"subset": subset.format(**wildcards)})


def counted(subset):
    """Which pixels count, where some of the category may not."""
    return lambda wildcards: (
        f"{SUBSET}/counted.npy".format(**dict(wildcards) | {"subset": subset.format(**wildcards)})
        if CONFIG.of(wildcards.category).restricted
        else []
    )


def calibration_images(wildcards):
    """The images that the calibration scores are of: if none are held back, those to train on."""
    subset = "train" if wildcards.category in UNSPLIT else "calibration"
    return f"{SUBSET}/images.npy".format(**dict(wildcards) | {"subset": subset})


def calibration_counted(wildcards):
    return counted("train" if wildcards.category in UNSPLIT else "calibration")(wildcards)


def region_options(wildcards):
    """The ignored regions, and what the mask's content is."""
    regions = CONFIG.of(wildcards.category).regions
    content = None if regions.mask_file is None else file_hash(regions.mask_file)
    return plain(regions, mask_sha256=content)


def detector_inputs(subset, training=False):
    """Just what the detector needs to see of a subset."""

    def inputs(wildcards):
        values = dict(wildcards) | {"subset": subset.format(**wildcards)}
        folder = SUBSET.format(**values)
        chosen = detector_options(wildcards)
        wanted = chosen.inputs(training=training)
        found = {"geometry": f"{folder}/geometry.json"}
        if "images" in wanted:
            found["images"] = seen(subset)(wildcards)
        if "object_masks" in wanted:
            found["object_masks"] = f"{folder}/object_masks.npy"
        if restricting := counted(subset)(wildcards):
            found["counted"] = restricting
        if "poses" in wanted:
            posed = POSED.format(**values, poses=chosen.pose_set)
            found["posed_counted"] = f"{posed}/counted.npy"
            sets = chosen.feature_sets
            found["posed_features"] = [f"{posed}/features/{name}.npy" for name in sets]
        if "features" in wanted:
            sets = chosen.feature_sets
            found["features"] = [f"{folder}/features/{name}.npy" for name in sets]
            found["features_json"] = [f"{folder}/features/{name}.json" for name in sets]
        if "synthetic" in wanted:
            synthetic = f"{PROTOCOL.format(**values)}/synthetic/{chosen.synthetic_set}"
            found["synthetic_images"] = f"{synthetic}/images.npy"
            found["synthetic_masks"] = f"{synthetic}/masks.npy"
            found["synthetic_index"] = f"{synthetic}/index.csv"
        if "labels" in wanted:
            found["labels"] = f"{folder}/labels.csv"
        if training and chosen.local_weights:
            found["weights"] = str(chosen.local_weights)
        return found

    return inputs


def scored(wildcards):
    """What is scored and, if the memory must leave it out, which training images are akin."""
    found = detector_inputs("{subset}")(wildcards)
    if wildcards.subset == "train" and wildcards.category in LEAVING:
        found["folds"] = f"{PROTOCOL}/train/folds.csv".format(**wildcards)
    return found


def drawn(wildcards):
    """What the detector sees of all three subsets, to train on other draws."""
    found = {}
    for subset in ("train", "calibration", "test"):
        seen = detector_inputs(subset, training=subset == "train")(wildcards)
        found |= {f"{subset}_{name}": files for name, files in seen.items()}
    return found


def drawn_seeds(wildcards):
    return CONFIG.of(wildcards.category).calibration.seeds


def folds(file):
    """A file of every fold of a detector's cross-calibration."""
    return lambda wildcards: [
        f"{FOLD}/{file}".format(fold=fold, **wildcards)
        for fold in range(CONFIG.of(wildcards.category).calibration.fold_count)
    ]


def among(names):
    """A wildcard's constraint to a list that may be empty."""
    return "|".join(map(re.escape, names)) or "(?!)"


def made_data(wildcards):
    """The stamp of data that a rule makes; nothing for the user's own folder."""
    return [] if CONFIG.provided else f"{DATA}/{wildcards.category}.json"


def weights_file(wildcards):
    file = CONFIG.of(wildcards.category).features[wildcards.features].weights_file
    return [] if file is None else str(file)


def templates(*names, rooms=("report",)):
    """Content hash of all templates that pages are rendered from."""
    folders = [SOURCE / "flawline" / room / "templates" for room in rooms]
    return templates_fingerprint(folders, *names)


def figure(file, caption, label):
    return report(
        f"{DETECTOR}/figures/{file}",
        caption=f"captions/{caption}.rst",
        category="{category}",
        subcategory="{detector}",
        labels={"figure": label, "seed": "{seed}"},
    )


def comparison_figure(name, label):
    """A figure of the comparison, as SVG and as PNG."""
    path = f"{RESULTS}/comparison/{name}"
    labels = {"figure": label}
    svg = report(
        f"{path}.svg", caption=f"captions/{name}.rst", category="Comparison", labels=labels
    )
    return [svg, f"{path}.png"]


def pictures():
    """What the methods see, of every run whose method can show it."""
    return [path for path in runs("figures/pictures.jpg") if Path(path).parts[-4] in EXPLAINING]


def runs(file):
    """A file of every category, detector and seed."""
    return [
        f"{DETECTOR}/{file}".format(
            category=category, protocol=protocol, detector=detector, seed=seed
        )
        for category in CONFIG.category_names
        for detector, protocol in CONFIG.of(category).protocols.items()
        for seed in CONFIG.seeds
    ]


def cutouts(wildcards):
    """The user's own pictures that a set of synthetic anomalies pastes."""
    chosen = CONFIG.of(wildcards.category).synthetic[wildcards.synthetic]
    folders = [getattr(recipe, "folder", None) for recipe in chosen.recipes]
    return sorted(str(path) for folder in folders if folder for path in folder.glob("*"))


def contact_sheets():
    """The contact sheet of every set of synthetic anomalies and category."""
    return expand(
        f"{PROTOCOL}/synthetic/{{synthetic}}/contact_sheet.png",
        category=CONFIG.category_names,
        protocol="unsupervised",
        synthetic=CONFIG.synthetic,
    )


def every_stage():
    """The small files of every job, for `all` to ask for.

    Snakemake deletes what a failed or killed job wrote. Nobody would miss it, and what was made
    from it before would look finished, where nothing asks for it that must run anyway. Large
    arrays are not among the files, so that they can be deleted to save space.
    """
    found = {*rules.compare.output, *contact_sheets(), *pictures()}
    for sheet in map(Path, contact_sheets()):
        found.add(str(sheet.with_name("index.csv")))
        found.add(str(sheet.parents[2] / "object_masks" / "model.json"))
    tables = ("training.csv", "predictions.csv", "test/boxes.csv")
    for file in ("model/model.json", "threshold.json", "figures/gallery.jpg", *tables):
        found.update(runs(file))
    for run in map(Path, runs("metrics.json")):
        _, _, category, protocol, _, detector, seed, _ = run.parts
        names = {"category": category, "protocol": protocol, "detector": detector}
        names = Wildcards(fromdict=names | {"seed": seed.removeprefix("seed")})
        shared = Path(PROTOCOL.format(**names))
        for subset in ("train", "calibration", "test"):
            found.add(f"{run.parent}/{subset}/scores.csv")
        found.add(str(run))
        if detector in CONFIG.fusion:
            continue
        unsplit = category in UNSPLIT
        posed = detector_inputs("train", training=True)(names)
        found |= {posed[name] for name in ("posed_counted",) if name in posed}
        found |= {f"{shared.parent}/index.csv", f"{shared.parent}/problems.csv"}
        found |= {f"{shared}/split.csv", f"{shared}/train/folds.csv"}
        found |= {f"{shared}/test/labels.csv", f"{shared}/near_duplicates.csv"}
        if category in CROSS:
            for file in ("model/model.json", "scores.csv", "test_goods.csv"):
                found.update(folds(file)(names))
        for subset in ("train", "calibration", "test"):
            if subset == "calibration" and unsplit:
                continue
            files = detector_inputs(subset)(names)
            found |= {f"{shared}/{subset}/sizes.csv", files["geometry"]}
            found |= {*files.get("features_json", [])}
            found |= {files[n] for n in ("object_masks", "labels", "counted") if n in files}
            if CONFIG.of(category).prepare.tiles:
                found.add(f"{shared}/{subset}/tiles.json")
            if "object_masks" in files:
                found.add(f"{shared}/object_masks/model.json")
        if not CONFIG.provided:
            found.add(made_data(names))
    return sorted(found)


def closing_line():
    """Where the report is, which detector was best for each category, and what was not tested."""
    if "inspect" in workflow.dag_settings.targets:
        return inspection_line()
    from flawline.evaluation.comparison import best_in_words

    page = f"{RESULTS}/report.html"
    if page not in {str(file) for job in workflow.dag.jobs for file in job.output}:
        return "Done: what was asked for is there."
    table = Path(RESULTS, "comparison", "best.csv")
    best = ""
    if table.exists():
        with table.open(encoding="utf-8", newline="") as file:
            best = best_in_words(list(csv.DictReader(file)))
    return f"Report: {page}" + (f" - {best}" if best else "")
