"""Any scenario is run, or costs one sentence; ``FEDLAB_FUZZ=2000`` tries as many."""

import contextlib
import os
import time

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings

from fedlab import BadInput, Federation, RunFailed, Scenario
from tests.simulation.scenarios import scenario_tables

EXAMPLES = int(os.environ.get("FEDLAB_FUZZ", "12"))


@pytest.mark.slow
@pytest.mark.timeout(EXAMPLES * 60)
@settings(
    max_examples=EXAMPLES,
    deadline=None,  # on a busy machine the wall says nothing about the scenario
    suppress_health_check=list(HealthCheck),
    derandomize=EXAMPLES < 100,
    print_blob=True,
)
@given(scenario_tables())
def test_any_scenario_runs_or_costs_one_sentence(tables):
    begun = time.process_time()
    with contextlib.suppress(BadInput, RunFailed):
        try:
            scenario = Scenario.parse(tomli_w.dumps(tables))
        except (TypeError, ValueError):  # None and huge numbers are for Python alone
            scenario = Scenario(**tables)
        Federation(scenario).step()
    assert time.process_time() - begun < 20
