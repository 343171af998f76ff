"""Prescriptions are told to who is proved to be the owner, and to nobody else."""

import asyncio
import contextlib
import datetime
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from sqlalchemy import select

from services.tools.database import Base, Database, Guesses, Owner, Patient, Prescription
from services.tools.prescriptions import Prescriptions, price
from services.tools.registry import Registry
from services.tools.runner import Runner
from services.tools.seed import samples
from tests.unit.tools.house import request

pytestmark = pytest.mark.unit

TOOL = "fetch_prescription_status"
ROSIES_OWNER = {"date_of_birth": "1985-03-14", "caller": "+12025550143"}
STRANGER = "+12025550100"
OTHER_CALL = "CA" + "f" * 32


def twins() -> list[Base]:
    """Two owners of one day, each with a Max; and one owner of two Maxes."""
    day = datetime.date(1985, 3, 14)
    rows: list[Base] = [
        Owner(id="pia", name="Pia Berg", date_of_birth=day, phone="+12025550155"),
        Owner(id="ole", name="Ole Dahl", date_of_birth=day, phone="+12025550156"),
        Patient(id="max-1", owner_id="pia", name="Max", species="dog"),
        Patient(id="max-2", owner_id="ole", name="Max", species="parrot"),
        Patient(id="max-3", owner_id="ole", name="max", species="tortoise"),
        Patient(id="aerie", owner_id="ole", name="Ærie", species="hamster"),
    ]
    rows += [
        Prescription(
            id=f"twin-{number}",
            patient_id=f"max-{number}",
            medication=f"Medicine {number}",
            strength="1 mg",
            price_cents=1250,
            status="ready",
            refills=0,
            veterinarian="Dr. No",
            clinic="A clinic",
        )
        for number in (1, 2, 3)
    ]
    return rows


class Desk:
    """The tool, asked as the session asks."""

    def __init__(self, database: Database, **options: Any) -> None:
        self.database = database
        settings = {"tries": 5, "verify_by_number": True, **options}
        self.runner = Runner(Registry(Prescriptions(database, **settings)))

    async def ask(
        self,
        name: str = "Rosie",
        *,
        caller: str = STRANGER,
        direction: str = "inbound",
        call: str | None = None,
        **arguments: str,
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {"context": {"caller": caller, "direction": direction}}
        if call:
            fields["call"] = call
        data = request(TOOL, {"patient_name": name, **arguments}, **fields)
        answer = await self.runner.answer(TOOL, data)
        assert answer.code == "", answer.message
        output = json.loads(answer.data)
        assert isinstance(output, dict)
        return output

    async def status(self, *arguments: Any, **named: Any) -> str:
        return str((await self.ask(*arguments, **named))["status"])


@contextlib.asynccontextmanager
async def desk(url: str, **options: Any) -> AsyncIterator[Desk]:
    database = Database(url, seed=[*samples(), *twins()])
    try:
        yield Desk(database, **options)
    finally:
        await database.close()


def private_words() -> set[str]:
    """Every value of every record, whole and in words, that an answer must not hold by chance."""
    words: set[str] = set()
    for row in [*samples(), *twins()]:
        for column in row.__table__.columns:
            if column.name == "id" or column.name.endswith("_id"):
                continue
            value = str(getattr(row, column.name) or "")
            words |= {value, *re.findall(r"[\w-]{4,}", value)}
            if column.name == "price_cents":
                words.add(price(int(value or 0)))
    # Words of ordinary English, which our own sentences have as well.
    ordinary = {"", "0", "1", "2", "3", "5", "ready", "three", "within", "clinic", "veterinarian"}
    return {word.casefold() for word in words} - ordinary - {"animal", "days"}


PRIVATE = private_words()


def assert_nothing_told(output: dict[str, Any]) -> None:
    told = json.dumps(output, ensure_ascii=False).casefold()
    # By whole words: there is a cat in "verification".
    found = {word for word in PRIVATE if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", told)}
    assert not found
    assert set(output) == {"status", "message", "ask_for"}


async def test_the_owner_of_the_seed_hears_everything(database_url: str) -> None:
    async with desk(database_url) as at:
        output = await at.ask(date_of_birth="March 14th, 1985")
    assert output == {
        "status": "verified",
        "prescriptions": [
            {
                "patient": "Rosie",
                "species": "dog",
                "medication": "Simparica-Trio",
                "strength": "30 mg tablet",
                "price": "$100",
                "status": "ready for pickup",
                "refills_left": 3,
                "veterinarian": "Dr. Suzy Greenberg",
                "clinic": "Forbin's Veterinary Clinic",
            }
        ],
    }


@pytest.mark.parametrize(
    ("arguments", "caller", "status", "medications"),
    [
        ({}, "", "verification_needed", []),
        ({}, STRANGER, "verification_needed", []),
        ({"name": "Nobody"}, STRANGER, "verification_needed", []),
        ({}, "anonymous", "verification_needed", []),
        ({"date_of_birth": "somewhen"}, STRANGER, "verification_needed", []),
        ({"date_of_birth": "03/04/1985"}, STRANGER, "verification_needed", []),
        ({"date_of_birth": "1985-03-15"}, STRANGER, "not_verified", []),
        ({"name": "Nobody", "date_of_birth": "1985-03-14"}, STRANGER, "not_verified", []),
        ({"name": "Luna", "date_of_birth": "1985-03-14"}, STRANGER, "not_verified", []),
        ({"owner_name": "Jamie Whitfield"}, STRANGER, "not_verified", []),
        ({"date_of_birth": "1985-03-14"}, "", "verified", ["Simparica-Trio"]),
        ({"date_of_birth": "1972-11-02"}, "", "verified", ["Methimazole"]),
        ({"name": " rOSIE "}, "+1 202 555 0143", "verified", ["Simparica-Trio"]),
        ({"date_of_birth": "1999-09-09"}, "+12025550143", "verified", ["Simparica-Trio"]),
        ({"name": "Bandit"}, "+12025550119", "verified", ["Apoquel", "Carprofen"]),
        ({"name": "Ærie"}, "+12025550156", "verified", []),
        # One factor fits one Rosie, the other another.
        ({"date_of_birth": "1972-11-02"}, "+12025550143", "several_matches", []),
        ({"name": "Max", "date_of_birth": "1985-03-14"}, "", "several_matches", []),
        (
            {"name": "Max", "date_of_birth": "1985-03-14", "owner_name": "berg"},
            "",
            "verified",
            ["Medicine 1"],
        ),
        (
            {"name": "Max", "date_of_birth": "1985-03-14", "owner_name": "Ole Dahl"},
            "",
            "verified",
            ["Medicine 2", "Medicine 3"],
        ),
        (
            {"name": "Max", "date_of_birth": "1985-03-14", "owner_name": "Jamie"},
            "",
            "not_verified",
            [],
        ),
    ],
)
async def test_factors(
    arguments: dict[str, str],
    caller: str,
    status: str,
    medications: list[str],
    database_url: str,
) -> None:
    async with desk(database_url) as at:
        output = await at.ask(caller=caller, **arguments)
    assert output["status"] == status
    if status == "verified":
        assert sorted(each["medication"] for each in output["prescriptions"]) == medications
    else:
        assert_nothing_told(output)


@pytest.fixture
def sqlite_url(tmp_path: Any) -> str:
    return f"sqlite:///{tmp_path}/prescriptions.db"


async def test_an_unknown_patient_and_a_wrong_factor_are_one_answer(sqlite_url: str) -> None:
    async with desk(sqlite_url, tries=20) as at:
        for factor in ({}, {"date_of_birth": "1990-01-01"}, {"owner_name": "Jamie"}):
            answers = [await at.ask(name, **factor) for name in ("Rosie", "Nobody", "Luna")]
            assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    "arguments",
    [
        {"caller": "+12025550143"},
        {"phone": "+12025550143"},
        {"context": {"caller": "+12025550143"}},
        {"patient_name": {"name": "Rosie"}},
        {"patient_name": ""},
        {"patient_name": "Ro\x00sie"},
        {"patient_name": "x" * 101},
    ],
    ids=range(7),
)
async def test_the_model_cannot_say_who_calls(sqlite_url: str, arguments: dict[str, Any]) -> None:
    async with desk(sqlite_url) as at:
        data = request(TOOL, {"patient_name": "Rosie", **arguments})
        answer = await at.runner.answer(TOOL, data)
        assert (answer.code, answer.data) == ("invalid_arguments", b"")
        assert await at.status() == "verification_needed"


async def test_only_a_telephone_network_vouches_for_a_number(sqlite_url: str) -> None:
    number = ROSIES_OWNER["caller"]
    async with desk(sqlite_url) as at:
        assert await at.status(caller=number, direction="browser") == "verification_needed"
        assert await at.status(caller=number, direction="outbound") == "verified"
    async with desk(sqlite_url, verify_by_number=False) as at:
        assert await at.status(caller=number) == "verification_needed"


async def test_a_call_has_few_tries(database_url: str) -> None:
    right = {"date_of_birth": ROSIES_OWNER["date_of_birth"]}
    async with desk(database_url, tries=3) as at:
        # What proves something, or asks for more, is no wrong try.
        for _ in range(5):
            assert await at.status(**right) == "verified"
            assert await at.status() == "verification_needed"
            assert await at.status(date_of_birth="somewhen") == "verification_needed"
        for name in ("Rosie", "Nobody", "Rosie"):
            assert await at.status(name, date_of_birth="1990-01-01") == "not_verified"
        for _ in range(2):
            output = await at.ask(**right)
            assert output["status"] == "locked"
            assert_nothing_told(output)
        assert await at.status(caller=ROSIES_OWNER["caller"]) == "locked"
        assert await at.status(call=OTHER_CALL, **right) == "verified"
    async with desk(database_url, tries=3) as restarted:
        assert await restarted.status(**right) == "locked"


async def test_tries_side_by_side_are_not_more_tries(database_url: str) -> None:
    days = [f"1990-01-{day:02}" for day in range(1, 13)]
    async with desk(database_url, tries=3) as at, asyncio.TaskGroup() as group:
        asked = [group.create_task(at.status(date_of_birth=day)) for day in days]
    found = [task.result() for task in asked]
    assert sorted(found) == ["locked"] * 9 + ["not_verified"] * 3


async def test_right_factors_side_by_side_are_no_wrong_tries(database_url: str) -> None:
    born = ROSIES_OWNER["date_of_birth"]
    async with desk(database_url, tries=1) as at, asyncio.TaskGroup() as group:
        asked = [group.create_task(at.status(date_of_birth=born)) for _ in range(12)]
    assert [task.result() for task in asked] == ["verified"] * 12


async def test_old_tries_are_forgotten(database_url: str) -> None:
    async with desk(database_url) as at:
        await at.status(date_of_birth="1990-01-01")
        async with at.database.session() as session:
            (guesses,) = (await session.scalars(select(Guesses))).all()
            guesses.at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=25)
        await at.status(call=OTHER_CALL)
        async with at.database.session() as session:
            assert [each.call for each in await session.scalars(select(Guesses))] == [OTHER_CALL]


async def test_data_outlive_a_restart(database_url: str) -> None:
    async with desk(database_url) as at, at.database.session() as session:
        prescription = await session.get(Prescription, "sample-1")
        assert prescription is not None
        prescription.status = "picked up"
    async with desk(database_url) as at:
        output = await at.ask(date_of_birth=ROSIES_OWNER["date_of_birth"])
    assert output["prescriptions"][0]["status"] == "picked up"


async def test_without_a_database_it_says_so(tmp_path: Any) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    async with desk(f"sqlite:///{blocker}/prescriptions.db") as at:
        answer = await at.runner.answer(TOOL, request(TOOL, {"patient_name": "Rosie"}))
    assert (answer.code, answer.data) == ("unavailable", b"")


async def test_nothing_private_is_logged(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="services")
    async with desk(sqlite_url) as at:
        await at.ask(**ROSIES_OWNER)
        await at.ask("Zanzibarbara", date_of_birth="1951-05-05", owner_name="Quentin")
    ours = [record for record in caplog.records if record.name.startswith("services")]
    assert ours
    shown = str([vars(record) for record in ours]).casefold()
    told = {"rosie", "zanzibarbara", "quentin", "1951", "1985", "2025550143", "simparica"}
    assert not {word for word in told if word in shown}


def test_whatever_a_stranger_says_nothing_is_told(sqlite_url: str) -> None:
    @hypothesis_settings(max_examples=60, deadline=None)
    @given(
        name=st.sampled_from(["Rosie", "Max"]) | st.text(max_size=20),
        born=st.sampled_from(["1990-01-01", "14 March 1986"]) | st.text(max_size=20),
        owner=st.just("Jamie Whitfield") | st.text(max_size=20),
        caller=st.text(max_size=16),
        call=st.integers(0, 9),
    )
    def one(name: str, born: str, owner: str, caller: str, call: int) -> None:
        arguments = {"patient_name": name, "date_of_birth": born, "owner_name": owner}
        fields = {"context": {"caller": caller}, "call": f"CA{call:032}"}
        answer = loop.run(at.runner.answer(TOOL, request(TOOL, arguments, **fields)))
        if answer.code:
            assert answer.code == "invalid_arguments"
            assert not answer.data
        else:
            assert_nothing_told(json.loads(answer.data))

    with asyncio.Runner() as loop:
        at = Desk(Database(sqlite_url, seed=[*samples(), *twins()]))
        try:
            one()
        finally:
            loop.run(at.database.close())


def test_prices_are_spoken() -> None:
    assert [price(cents) for cents in (10_000, 3_450, 5, 0)] == ["$100", "$34.50", "$0.05", "$0"]
