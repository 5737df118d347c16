"""What the rule that inspects new images is told, and what it says in the end."""

from flawline.inspection.run_settings import FILES as TRAINED, check_files, run_folder, settings_of
from flawline.provenance import digest


def inspection_files(wildcards):
    if not CONFIG.inspected:
        raise WorkflowError(
            "Nothing to inspect: no folder is given. Add for example --config "
            "inspect='{folder: incoming, category: NAME, detector: NAME}'"
        )
    return f"{INSPECTION}/inspection.csv"


def inspected_run():
    return run_folder(CONFIG, CONFIG.inspected)


def inspected_method():
    chosen = CONFIG.inspected
    return CONFIG.of(chosen.category).detectors[chosen.detector].implementation.split(":")[0]


def inspection_settings():
    return settings_of(CONFIG, CONFIG.inspected.category, CONFIG.inspected.detector)


def about_inspection():
    chosen = CONFIG.inspected
    folder = given_path(chosen.folder).resolve().name
    about = {"folder": folder, "category": chosen.category, "detector": chosen.detector}
    return about | {"seed": str(chosen.seed)}


def inspected_batch():
    """What the history of batches calls this one and its detector."""
    chosen = CONFIG.inspected
    names = {"inspection": chosen.name, "category": chosen.category}
    return names | {"detector": chosen.detector, "seed": str(chosen.seed)}


def new_images(wildcards):
    """Digest of the images to inspect: new ones rerun the inspection."""
    folder = given_path(CONFIG.inspected.folder)
    if not is_folder(folder):
        raise WorkflowError(f"inspect.folder: there is no folder {str(folder)!r}")
    return folder_digest(folder, HIDDEN / "inspection.json")


def trained_digest(wildcards):
    """Digest of the trained detector; where there is none, an error says so."""
    run = inspected_run()
    try:
        check_files(run)
    except FlawlineError as error:
        raise WorkflowError(str(error)) from None
    return digest(files=[run / name for name in TRAINED])


def inspection_line():
    with Path(INSPECTION, "inspection.csv").open(encoding="utf-8", newline="") as file:
        found = [row["decision"] for row in csv.DictReader(file)]
    bad, unreadable = found.count("defective"), found.count("unreadable")
    return (
        f"Inspection: {INSPECTION}/inspection.html - {bad} of {len(found) - unreadable} images "
        f"defective, {unreadable} unreadable"
    )
