"""What a page needs of a comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pandas as pd

from fedlab.runs.folder import RunFolder
from fedlab.scenario import Scenario


class ComparedRun(Protocol):
    """One run of a comparison."""

    @property
    def defense(self) -> str:
        """Label of what defended the clients."""

    @property
    def rule(self) -> str:
        """Label of the server's aggregation rule."""

    @property
    def seed(self) -> int:
        """Of everything."""

    @property
    def folder(self) -> RunFolder:
        """The run itself."""


class Compared(Protocol):
    """The same experiment under several defenses, rules and seeds."""

    @property
    def scenario(self) -> Scenario:
        """The base of all runs."""

    @property
    def folder(self) -> Path:
        """Where the comparison is."""

    @property
    def defenses(self) -> Sequence[str]:
        """Labels, in the order asked."""

    @property
    def seeds(self) -> Sequence[int]:
        """Of the runs."""

    @property
    def runs(self) -> Sequence[ComparedRun]:
        """That have a result."""

    @property
    def failures(self) -> Mapping[str, str]:
        """Names of the other runs, and why they have none."""

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each defense, rule, seed, attack, round and client."""

    @property
    def leakage(self) -> pd.DataFrame:
        """A row for each image and target of each run."""
