from flawline.logs import logged

with logged(snakemake.log[0]) as log:
    from flawline.devices import choose_device
    from flawline.inspection import page
    from flawline.inspection.batches import compared, recorded
    from flawline.inspection.folder import UNREADABLE, inspect_folder, write_verdicts
    from flawline.inspection.trained_detector import load_trained

    output, given = snakemake.output, snakemake.params
    device = choose_device(snakemake.resources.gpu, snakemake.threads)
    trained = load_trained(given.run, given.settings, device)
    verdicts = inspect_folder(given.folder, trained, output.overlays, workers=snakemake.threads)
    for verdict in verdicts:
        if verdict.decision == UNREADABLE:
            log.info("%r: %s", verdict.file, verdict.reason)
    names = given.batch | {"content": given.content, "trained": given.trained}
    history = recorded(given.history, verdicts, compared(verdicts, trained), names)
    made = page.describe(verdicts, trained, output.overlays, history, **given.about)
    page.render(output.page, made)
    write_verdicts(output.table, verdicts)
