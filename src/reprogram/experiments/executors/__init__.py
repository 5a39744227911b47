"""Where jobs run: in this process, in worker processes, on a Ray cluster, on a Slurm cluster.

Behind each stands the same `run_job` with the same number of threads, so all give the same rows.
"""

from reprogram.experiments.executors.base import Executor, Lost, Report
from reprogram.experiments.executors.inline import InlineExecutor
from reprogram.experiments.executors.process import ProcessExecutor
from reprogram.experiments.executors.ray import RayExecutor
from reprogram.experiments.executors.slurm import SlurmExecutor

__all__ = ["EXECUTORS", "Executor", "Lost", "Report"]

EXECUTORS: dict[str, type[Executor]] = {
    "inline": InlineExecutor,
    "process": ProcessExecutor,
    "ray": RayExecutor,
    "slurm": SlurmExecutor,
}
