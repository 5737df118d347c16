"""Say in one line what a run would do and why: `python -m flawline.workflow.plan [ARGUMENTS]`.

Snakemake plans the run itself, as for `--dry-run`; this puts its reasons into words of the
configuration.
"""

import ast
import io
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any
from unittest.mock import patch

from flawline.configfile import check_configfiles
from flawline.errors import FlawlineError
from flawline.features.store import STORE, has, likely_key
from flawline.provenance import file_hash
from flawline.stages import STAGES

# words for other params
PARAMS = {
    "image_size": "prepare.size",
    "resize": "prepare.resize",
    "max_megapixels": "data.max_megapixels",
    "white": "data.white",
    "seed": "synthetic_seed",
    "seeds": "calibration.seeds",
    "fraction": "calibration.fraction",
    "folds": "calibration.folds",
    "mode": "calibration.mode",
    "detector": "detectors.{detector}.method",
    "folder": "the dataset's folder",
    "content": "the photographs of {category}",
    "templates": "the report's templates",
    "configuration": "the configuration",
}
# wildcards that a run can get new values of; the first new one explains the rest
PARTS = ("category", "synthetic", "features", "detector", "seed")
LONG = 24  # characters; longer values are not shown


def plan(arguments: list[str]) -> str:
    """Return one line about what Snakemake would do with these arguments.

    Raises
    ------
    FlawlineError
        If a configuration file cannot be read, or Snakemake refuses; with what it said.
    """
    from snakemake.api import DAGApi
    from snakemake.cli import args_to_api, parse_args

    check_configfiles(arguments)
    found = []
    execute = DAGApi.execute_workflow

    def look(self: Any, *given: Any, **more: Any) -> None:
        execute(self, *given, **more)
        found.append(describe(self.workflow_api._workflow))

    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            parser, parsed = parse_args([*arguments, "--dry-run"])
            # `args_to_api` alone turns arguments and profiles into settings; it keeps the workflow
            with patch.object(DAGApi, "execute_workflow", look):
                args_to_api(parsed, parser)
    except SystemExit:  # wrong arguments
        pass
    if not found:
        raise FlawlineError(said.getvalue().strip())
    return found[0]


def describe(workflow: Any) -> str:
    """Return the plan of a workflow whose DAG is built, as one line."""
    dag = workflow.dag
    jobs = [job for level in dag.toposorted() for job in level if not job.rule.norun]
    pending = [job for job in jobs if dag.needrun(job)]
    if not pending:
        return f"Nothing to do: all {len(jobs)} jobs are reused."
    rules = Counter(job.rule.name for job in pending)
    counts = ", ".join(f"{name} {count}" for name, count in rules.items())
    line = (
        f"{len(pending)} of {len(jobs)} jobs run: {'; '.join(reasons(dag, jobs))} ({counts}); "
        f"{len(jobs) - len(pending)} are reused."
    )
    stored = sum(in_store(dag, job) for job in pending if job.rule.name == "extract_features")
    return f"{line} extract_features: {stored} from the feature store." if stored else line


def reasons(dag: Any, jobs: list[Any]) -> list[str]:
    """Return why jobs run, each cause once, without those that only follow from another job."""
    if all(dag.reason(job).missing_output for job in jobs):
        return ["nothing was made yet"]
    new = new_parts(dag, jobs)
    where: dict[tuple[str, str], set[str]] = defaultdict(set)
    for job in jobs:
        if dag.needrun(job):
            for cause in causes(dag, job, new):
                where[cause].add(job.wildcards_dict.get("category", ""))
    if len(where) > 1:  # the tables' copy of the configuration changes with every option
        where.pop(("changed", "the configuration"), None)
    categories = {job.wildcards_dict.get("category", "") for job in jobs} - {""}
    phrases: dict[str, list[str]] = defaultdict(list)
    for (kind, what), found in where.items():
        some = f" ({', '.join(sorted(found))})" if "" not in found < categories else ""
        named = any(category in what for category in found)
        phrases[kind].append(what if named or kind == "new" else what + some)
    return [f"{', '.join(whats)} {kind}" for kind, whats in phrases.items()] or ["asked for"]


def new_parts(dag: Any, jobs: list[Any]) -> set[tuple[str, str]]:
    """Return the categories, detectors, seeds and so on that have no results yet."""
    made, seen = set(), set()
    for job in jobs:
        parts = {(part, job.wildcards_dict.get(part)) for part in PARTS}
        seen |= parts
        if not dag.reason(job).missing_output:
            made |= parts
    return {(part, name) for part, name in seen - made if name}


def causes(dag: Any, job: Any, new: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield a job's own reasons, each as (what happened, to what)."""
    reason, names = dag.reason(job), job.wildcards_dict
    if reason.forced:
        yield "asked for by force", job.rule.name
    if reason.incomplete_output:
        yield "interrupted", job.rule.name
    if reason.missing_output:
        first = next((part for part in PARTS if (part, names.get(part)) in new), None)
        if first:
            yield "new", f"{first} {names[first]}"
        else:
            yield "missing", f"files of {job.rule.name}"
    for file in reason.updated_input if not reason.missing_output else ():
        yield "changed", str(file)
    if reason.software_stack_changed:
        yield "changed", f"the software environment of {job.rule.name}"
    if reason.params_changed:
        for what in changed_params(job, reason.params_changed):
            yield "changed", what.format(**names)


def changed_params(job: Any, change: Any) -> Iterator[str]:
    """Yield keys of the configuration, or other words, for the changed params of a job."""
    before = [_value(text) for text in change.only_old]
    for name, value in job.params.items():
        if repr(value) not in change.only_new:
            continue
        if name == "options":
            stage = STAGES.get(
                job.rule.name
            )  # none: a rule renamed by a workflow that imports this
            section = stage.section if stage else job.rule.name
            yield from (f"{section}.{key}" for key in changed_options(before, value))
        elif name == "code":
            yield f"the code of {job.rule.name}"
        else:
            yield PARAMS.get(
                name, f"the {name}" if name == "configuration" else f"{name} of {job.rule.name}"
            )


def changed_options(before: Iterable[Any], now: dict[str, Any]) -> Iterator[str]:
    """Yield keys whose values differ, with both values where they are short."""
    old = next((value for value in before if isinstance(value, dict)), {})
    for key in sorted(old.keys() | now.keys()):
        if key not in old or key not in now:
            yield key
        elif old[key] != now[key]:
            short = len(f"{old[key]}{now[key]}") <= LONG
            yield f"{key} ({old[key]} -> {now[key]})" if short else key


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def in_store(dag: Any, job: Any) -> bool:
    """Check whether an extraction would find its features in the store."""
    images = job.input.images
    if any(dag.needrun(maker) for maker in dag.dependencies[job]):
        return False
    key = likely_key(file_hash(images), gpus=job.resources.gpu, **job.params.options)
    return key is not None and has(STORE, key)


def main() -> None:
    try:
        print(plan(sys.argv[1:]))
    except FlawlineError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
