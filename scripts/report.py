from flawline.logs import logged

with logged(snakemake.log[0]):
    import json
    from collections import defaultdict
    from datetime import UTC, datetime
    from pathlib import Path

    import yaml

    from flawline.provenance import versions
    from flawline.report import figures, page
    from flawline.report.runs import comparison_rows, read_run
    from flawline.report.stages import graph

    files, outputs, given = snakemake.input, snakemake.output, snakemake.params
    found = [Path(path) for path in files.metrics if Path(path).exists()]
    missing = [str(Path(path).parent) for path in files.metrics if not Path(path).exists()]
    runs = [read_run(path, given.benchmarks) for path in found]
    newest = max((path.stat().st_mtime for path in found), default=0)
    sheets = defaultdict(list)
    for path in map(Path, files.sheets):
        category, name = path.parts[-5], path.parts[-2]
        sheets[category].append(page.contact_sheet(category, name, path))
    ranks = comparison_rows(files.ranks)
    origin = page.Origin(
        given.dataset,
        f"{datetime.fromtimestamp(newest, UTC):%Y-%m-%d %H:%M} UTC",
        yaml.safe_dump(json.loads(given.configuration), default_flow_style=None, width=96),
        versions(),
        graph(given.benchmarks),
    )
    made = page.assemble(
        runs,
        origin,
        missing=missing,
        pairs=comparison_rows(files.pairwise),
        comparison=page.compare(ranks, comparison_rows(files.wilcoxon)),
        sheets=sheets,
    )
    page.render(Path(outputs.page), made)
    best = "unsupervised" if any(run.protocol == "unsupervised" for run in runs) else "supervised"
    figures.save(page.rank_figure(ranks, best), *outputs.critical_difference)
    figures.save(page.cost_figure(made, best), *outputs.accuracy_cost)
