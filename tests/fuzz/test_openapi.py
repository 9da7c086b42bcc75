"""Requests that are made up from the OpenAPI description: every answer is one that it describes, and never a 5xx."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.app import create_app
from store.deadlines import Deadlines
from store.settings import Settings
from tests.fuzz.conftest import CASES

ENDLESS = "/v1/stream"
BESIDE_THE_POINT = {
    # What a schema cannot say (whether an address has 32 bytes, or a cursor is one of ours) is refused with 422.
    "": {"positive_data_acceptance"},
    # One bad event never sinks its batch: it is refused inside an answer of 200.
    "POST /v1/events": {"negative_data_rejection"},
    # A scraper on loopback needs no key.
    "GET /metrics": {"ignored_auth", "negative_data_rejection"},
}
"""Checks that do not apply, to every operation or to one, and why."""
schema = schemathesis.openapi.from_dict(create_app(Settings(), Deadlines()).openapi()).exclude(path=ENDLESS)
OPERATIONS = {result.ok().label: result.ok() for result in schema.get_all_operations()}


@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_every_answer_is_described(label, target):
    operation = OPERATIONS[label]
    modes = [operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode]

    names = BESIDE_THE_POINT[""] | BESIDE_THE_POINT.get(label, set())
    excluded = [schemathesis.checks.CHECKS.get_one(name) for name in sorted(names)]

    @given(case=st.one_of(modes))
    @hypothesis_settings(
        max_examples=CASES,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def send(case):
        case.call_and_validate(
            base_url=target.url,
            headers={"Authorization": f"Bearer {target.key}"},
            timeout=20,
            excluded_checks=excluded,
        )

    send()
