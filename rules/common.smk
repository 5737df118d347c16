"""The checked configuration, and the objects that the rules use."""

import gc
import os
from functools import partial
from pathlib import Path

from flawline.devices import spin_briefly
from flawline.features.store import STORE
from flawline.layout import PROTOCOLS, SUBSETS, Layout
from flawline.options.base import plain
from flawline.stages import STAGES
from flawline.workflow import labels
from flawline.workflow.check_backbones import HIDDEN
from flawline.workflow.configuration import validated
from flawline.workflow.console import say
from flawline.workflow.failures import report_the_rest
from flawline.workflow.inputs import Inputs, one_of
from flawline.workflow.inspection import Inspection, inspection_table
from flawline.workflow.lock import unlock_after_a_kill
from flawline.workflow.params import Code, Params
from flawline.workflow.resources import MachineResources, memory, minutes, train_first
from flawline.workflow.scheduling import search_once_at_a_time
from flawline.workflow.targets import Targets, closing_lines
from flawline.workflow.warm_start import WarmStarts

# Planning makes millions of small objects that stay. By default, Python searches new objects for garbage
# whenever there are 700 of them, which takes a tenth of a large plan's time (docs/performance.md). These
# numbers make that 140 times rarer, and the search through all objects 3500 times rarer.
gc.set_threshold(100_000, 50, 50)

# The folder of this workflow, whether it is the main one or a module of another.
SOURCE = Path(workflow.current_basedir).parent

# The environment's post-deploy script finds the package here, whatever the working directory is.
os.environ.update(FLAWLINE_SOURCE=str(SOURCE))
spin_briefly(os.environ)
ENVIRONMENT = f"../envs/{os.environ.get('FLAWLINE_ENV', 'flawline')}.yaml"

if workflow.is_main_process:
    unlock_after_a_kill(HIDDEN)

CONFIG = validated(config, workflow, SOURCE)
LAYOUT = Layout(CONFIG.dataset.name)
PARAMS = Params(CONFIG)
INPUTS = Inputs(CONFIG, LAYOUT)
RESOURCES = MachineResources(workflow)
TARGETS = Targets(CONFIG)
CODE = Code(SOURCE / "scripts", PARAMS)
WARM_STARTS = WarmStarts(CONFIG)
INSPECTION = Inspection(CONFIG, CONFIG.inspected) if CONFIG.inspected else None

DATA, RESULTS = LAYOUT.data, LAYOUT.results
CATEGORY, PROTOCOL, SUBSET = LAYOUT.category, LAYOUT.protocol, LAYOUT.subset
DETECTOR, FOLD, POSED = LAYOUT.detector, LAYOUT.fold, LAYOUT.posed
SYNTHETIC, COMPARISON = LAYOUT.synthetic, LAYOUT.comparison


wildcard_constraints:
    category=one_of(CONFIG.category_names),
    protocol=one_of(PROTOCOLS),
    subset=one_of(SUBSETS),
    features=one_of(CONFIG.features),
    synthetic=one_of(CONFIG.synthetic),
    poses=one_of(CONFIG.poses),
    detector=one_of([*CONFIG.detectors, *CONFIG.fusion]),
    seed=r"\d+",
    fold=r"\d+",


def log_of(rule):
    """Return the pattern of the logs of a rule's jobs."""
    return f"{LAYOUT.logs}/{rule}/{STAGES[rule].job}.log"


def benchmark_of(rule):
    return f"{LAYOUT.benchmarks}/{rule}/{STAGES[rule].job}.tsv"
