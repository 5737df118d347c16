from snakemake.utils import min_version

min_version("9.20")

if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "rules/captions/workflow.rst"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/synthesis.smk"
include: "rules/features.smk"
include: "rules/detection.smk"
include: "rules/fusion.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"
include: "rules/inspection.smk"


rule all:
    default_target: True
    input:
        LAYOUT.report,
        TARGETS.every_stage(),
        LAYOUT.mlflow if CONFIG.mlflow.enabled else [],
    localrule: True


onstart:
    search_once_at_a_time(workflow)
    WARM_STARTS.start(workflow)


onsuccess:
    WARM_STARTS.stop()
    inspecting = "inspect" in workflow.dag_settings.targets
    say(workflow, INSPECTION.closing_line() if inspecting else closing_lines(workflow, CONFIG))


onerror:
    WARM_STARTS.stop()
    say(workflow, report_the_rest(workflow, CONFIG))
