"""Problems of a category's data, and what it means to go on without the files."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from flawline.errors import FlawlineError

if TYPE_CHECKING:
    import pandas as pd

AS_IT_IS = "as it is"  # a notice: nothing has to be fixed or left out
LEFT_OUT = "the image is left out"
MASK_IGNORED = "the image counts, but not for pixel metrics"


@dataclass(frozen=True, order=True)
class Problem:
    """One problem of the data, and what skipping the file means."""

    file: str
    problem: str
    found: str
    expected: str
    can_go_on: str  # yes, no, or AS_IT_IS
    if_skipped: str


def notice(file: str, problem: str, found: str, expected: str) -> Problem:
    """Return a notice about a file that is used as it is."""
    return Problem(file, problem, found, expected, AS_IT_IS, "it is used as it is")


def summary(problems: list[Problem]) -> list[str]:
    """Return a line for each problem; notices of one kind share a line."""
    lines = [f"{p.file}: {p.problem}; {p.if_skipped}" for p in problems if p.can_go_on != AS_IT_IS]
    notices = [p for p in problems if p.can_go_on == AS_IT_IS]
    for kind in dict.fromkeys(notice.problem for notice in notices):
        some = [notice for notice in notices if notice.problem == kind]
        first = some[0]
        more = f" (and {len(some) - 1} more, see problems.csv)" if len(some) > 1 else ""
        lines.append(f"{first.file}{more}: {kind}: {first.found}; better: {first.expected}")
    return lines


def problem_table(problems: list[Problem]) -> "pd.DataFrame":
    """Return all problems as a table, one row each."""
    import pandas as pd

    return pd.DataFrame([asdict(p) for p in problems], columns=list(Problem.__annotations__))


def left_out(problems: "pd.DataFrame", split: str) -> int:
    """Count the files of a split that are not used, from `problem_table`."""
    unused = problems["if_skipped"].str.endswith(" left out")
    return int((unused & problems["file"].str.startswith(f"{split}/")).sum())


def refuse(category: str, problems: list[Problem], on_problem: str) -> None:
    """Raise one error with all problems in it, if the pipeline must not go on.

    Parameters
    ----------
    on_problem : ``error`` refuses any problem, ``skip`` only those that cannot be skipped.
    """
    problems = [problem for problem in problems if problem.can_go_on != AS_IT_IS]
    fatal = [problem for problem in problems if problem.can_go_on == "no"]
    if not problems or (on_problem == "skip" and not fatal):
        return
    lines = [
        f"  {p.file}: {p.problem}; found {p.found}, expected {p.expected}; "
        + (f"if skipped: {p.if_skipped}" if p.can_go_on == "yes" else "the pipeline cannot go on")
        for p in problems
    ]
    advice = (
        "Fix these files."
        if fatal
        else "Fix these files, or set `data: {on_problem: skip}` to go on without them."
    )
    noun = "problem" if len(problems) == 1 else "problems"
    raise FlawlineError(
        f"{category}: {len(problems)} {noun} in the images.\n" + "\n".join(lines) + f"\n{advice}"
    )
