from flawline.logs import logged

with logged(snakemake.log[0]):
    from collections import defaultdict
    from pathlib import Path

    from flawline.files import read_json
    from flawline.provenance import versions
    from flawline.report.page import assemble, contact_sheet, render, section_from_files

    files = zip(
        snakemake.input.metrics,
        snakemake.input.histograms,
        snakemake.input.rocs,
        snakemake.input.galleries,
        snakemake.input.cases,
        strict=True,
    )
    sections = [
        section_from_files(
            read_json(metrics), Path(histogram), Path(roc), Path(gallery), read_json(cases)
        )
        for metrics, histogram, roc, gallery, cases in files
    ]
    sheets = defaultdict(list)
    for path in map(Path, snakemake.input.sheets):
        category, name = path.parts[-5], path.parts[-2]
        sheets[category].append(contact_sheet(category, name, path))
    facts = [
        ("Dataset", snakemake.params.dataset),
        ("Runs", f"{len(sections)} (categories x detectors x seeds)"),
        ("Made with", ", ".join(f"{name} {found}" for name, found in versions().items())),
    ]
    dataset = snakemake.params.dataset
    page = assemble(f"Defect detection on {dataset}", dataset, facts, sections, sheets)
    render(Path(snakemake.output[0]), page)
