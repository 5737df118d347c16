"""What the report shows, and where runs are logged."""

from pydantic import Field

from flawline.options.base import Options


class Report(Options):
    """The report's verdicts and pictures."""

    max_missed: float = Field(
        0.1, gt=0, lt=1, description="Largest share of defective parts missed that is usable."
    )
    max_rejected: float = Field(
        0.1, gt=0, lt=1, description="Largest share of good parts rejected that is usable."
    )

    cases: int = Field(6, ge=0, le=50, description="Most wrong images shown per detector.")
    typical: int = Field(
        1, ge=0, le=50, description="Typical right calls shown, for good and for defective images."
    )


class Mlflow(Options):
    """Logging to MLflow, in a local store without a server."""

    enabled: bool = Field(
        False, description="Log every run; needs the optional packages `flawline[mlflow]`."
    )
    store: str | None = Field(
        None,
        description="Folder of the database and the artefacts; `results/<dataset>/mlflow`, if not "
        "given.",
    )
