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
include: "rules/failures.smk"
include: "rules/inspected.smk"
include: "rules/inspection.smk"


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",
        every_stage(),
        f"{RESULTS}/mlflow.json" if CONFIG.mlflow.enabled else [],
    localrule: True


onsuccess:
    print(closing_line())


onerror:
    print(report_the_rest())
