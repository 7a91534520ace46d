"""What tests of the report share."""

from __future__ import annotations

import pytest

from loadtest.surge.report.figures import Figures, figures_of
from tests.surge.small_day import record


@pytest.fixture(scope="module")
def figures() -> Figures:
    return figures_of(record())
