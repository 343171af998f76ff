"""Which agent answers which number."""

import pytest

from services.session.agents import choose
from shared.messages import AgentSettings

pytestmark = pytest.mark.unit

SALES = AgentSettings(id="sales", numbers=["+15551230001", "+15551230002"])
DEFAULT = AgentSettings(id="default", instructions="the default one")


def test_the_agent_with_the_dialled_number_answers() -> None:
    agents = {"default": DEFAULT, "sales": SALES}
    assert choose(agents, "+15551230002") is SALES


@pytest.mark.parametrize("dialled", ["", "+15559999999"])
def test_any_other_number_is_answered_by_the_default_agent(dialled: str) -> None:
    assert choose({"sales": SALES, "default": DEFAULT}, dialled) is DEFAULT


def test_an_agent_without_numbers_does_not_answer_a_call_without_a_number() -> None:
    assert choose({"a": AgentSettings(id="a", numbers=[""]), "default": DEFAULT}, "") is DEFAULT


def test_without_any_agent_the_built_in_one_answers() -> None:
    assert choose({}, "+15551230001") == AgentSettings()
