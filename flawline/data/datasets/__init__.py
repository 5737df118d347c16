"""The kinds of dataset: one module and one line here for each."""

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Discriminator, Tag

from flawline.data.datasets.base import Dataset
from flawline.data.datasets.btad import Btad
from flawline.data.datasets.demo import Demo
from flawline.data.datasets.folder import Folder
from flawline.data.datasets.good_bad import GoodBad
from flawline.data.datasets.kolektor_sdd import KolektorSdd
from flawline.data.datasets.kolektor_sdd2 import KolektorSdd2
from flawline.data.datasets.manifest import Manifest
from flawline.data.datasets.mvtec_ad import MvtecAd
from flawline.data.datasets.mvtec_ad_2 import MvtecAd2
from flawline.data.datasets.mvtec_loco import MvtecLoco
from flawline.data.datasets.visa import Visa

# if a folder could be of several kinds, the first is suggested
KINDS: tuple[type[Dataset], ...] = (
    Folder,
    MvtecAd,
    Demo,
    Visa,
    MvtecAd2,
    MvtecLoco,
    Btad,
    KolektorSdd,
    KolektorSdd2,
    GoodBad,
    Manifest,
)


def _kind(given: Any) -> str:
    get = given.get if isinstance(given, dict) else lambda key: getattr(given, key, None)
    kind, name = get("kind"), get("name")
    if kind is None:
        kind = name if name in ("mvtec_ad", "demo") else "folder"
    return str(kind)


def kind_of(dataset: type[Dataset]) -> str:
    """Return the word that chooses a kind in the configuration."""
    return str(dataset.model_fields["kind"].default)


if TYPE_CHECKING:
    AnyDataset = Dataset
else:
    AnyDataset = Annotated[
        Union[*(Annotated[kind, Tag(kind_of(kind))] for kind in KINDS)],
        Discriminator(_kind),
    ]
