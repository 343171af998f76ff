"""The documents say what the code does."""

import pathlib
import re

import pytest

from cli import messages_page
from cli.stack import Surroundings
from services.gateway.settings import GatewaySettings
from services.holdmusic.settings import HoldMusicSettings
from services.logs.settings import LogsSettings
from services.session.settings import SessionSettings
from services.tools.settings import ToolsSettings
from shared import messages, subjects

pytestmark = pytest.mark.contract

ROOT = pathlib.Path(__file__).parent.parent.parent
#: The services last: they know the defaults.
SETTINGS = (
    Surroundings,
    GatewaySettings,
    HoldMusicSettings,
    LogsSettings,
    SessionSettings,
    ToolsSettings,
)


def test_the_page_of_messages_is_what_the_contract_says() -> None:
    assert (ROOT / "docs/messages.md").read_text() == messages_page.page(), "run `make docs`"


def test_the_page_has_every_message() -> None:
    page = messages_page.page()
    kinds = [
        kind
        for kind in vars(messages).values()
        if isinstance(kind, type) and issubclass(kind, messages.Message)
    ]
    missing = {kind.__name__ for kind in kinds if f"### {kind.__name__}\n" not in page}
    assert missing == {"Message", "Event"}  # the bases


def test_the_page_has_every_subject() -> None:
    call = "CA" + "0" * 32
    page = messages_page.page()
    for subject in (
        subjects.OFFER,
        subjects.command(call),
        subjects.up(call, 1, "audio"),
        subjects.up(call, 1, "ctl"),
        subjects.down(call, 1, "audio"),
        subjects.down(call, 1, "ctl"),
        subjects.event(call, "name"),
        subjects.beat("worker"),
        subjects.log("service", "level"),
    ):
        pattern = re.escape(subject.replace(call, "C"))
        for name in ("1", "name", "worker", "service", "level"):
            pattern = re.sub(rf"(?<=\\\.){name}(?=\\\.|$)", "<[a-z]+>", pattern)
        assert re.search(f"`{pattern}`", page), subject


def test_the_example_of_settings_has_every_variable_with_its_default() -> None:
    text = (ROOT / ".env.example").read_text()
    given = dict(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=(.*)$", text, flags=re.MULTILINE))
    known = {name.upper(): field for kind in SETTINGS for name, field in kind.model_fields.items()}
    assert set(given) == set(known)
    for name, value in re.findall(r"^([A-Z][A-Z0-9_]+)=(.*)$", text, flags=re.MULTILINE):
        default = known[name].default
        wanted = "" if default is None else str(default)
        assert value == (wanted.lower() if isinstance(default, bool) else wanted), name


def test_links_in_the_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), (page, target)


def test_operations_names_only_metrics_that_exist() -> None:
    code = "".join(
        file.read_text()
        for pattern in ("services/*/metrics.py", "shared/*.py")
        for file in ROOT.glob(pattern)
    )
    for name in re.findall(r"`(switchboard_\w+)", (ROOT / "docs/operations.md").read_text()):
        assert name in code, name
