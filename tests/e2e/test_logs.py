"""A call's record, and `switchboard logs`, after and during a real simulated call."""

import asyncio
import json
import pathlib
import signal
import sys

import nats.errors
import pytest

from shared import subjects
from shared.messages import LOGS_ANSWER, CallTold, GetCall
from simulators.openai_realtime import Script
from simulators.phone import Phone
from tests.e2e.conftest import House, HouseOf
from tests.e2e.test_commands import COMMAND, run, surroundings
from tests.helpers import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

GREETING = "Hello, you have reached Acme."
SCRIPT = Script.model_validate(
    {
        "name": "acme",
        "greeting": {"say": GREETING},
        "turns": [{"hear": "When are you open?", "say": "From nine to five."}],
    }
)


async def acme(build: HouseOf) -> House:
    house = await build(scripts={"acme": SCRIPT}, logs=True)
    await house.agent(id="default", model="acme")
    return house


async def question_and_answer(house: House, phone: Phone) -> None:
    await phone.dial()
    await phone.wait_agent_turn()
    await phone.say("When are you open?")
    await phone.wait_agent_turn()
    await phone.hang_up()
    await house.ended(phone)


async def told(house: House, phone: Phone) -> CallTold | None:
    """The record, when it has its end."""
    request = GetCall(call=phone.identity.call_sid).encode()
    answer = await house.bus.request(subjects.LOGS_CALL, request, timeout=5)
    found = LOGS_ANSWER.validate_json(answer.data)
    return found if isinstance(found, CallTold) and found.story.state == "ended" else None


async def test_a_call_is_recorded_and_told_by_the_command(
    build: HouseOf, tmp_path: pathlib.Path
) -> None:
    house = await acme(build)
    async with house.phone() as phone:
        await question_and_answer(house, phone)
    await eventually(lambda: told(house, phone))
    found = await told(house, phone)
    assert found is not None
    story = found.story

    said = [(line.who, line.text) for line in story.transcript]
    assert said == [
        ("agent", GREETING),
        ("caller", "When are you open?"),
        ("agent", "From nine to five."),
    ]
    greeting, question, answer = story.transcript
    assert greeting.ms < question.ms < answer.ms
    assert greeting.end_ms is not None
    assert greeting.end_ms - greeting.ms > 500
    assert story.latencies.first_audio_ms == greeting.latency_ms
    assert story.latencies.replies_ms == [answer.latency_ms]
    assert story.reason == "caller_hung_up"
    assert story.caller == phone.identity.from_
    ended = await house.ended(phone)
    assert story.tokens == ended.tokens
    assert story.cost_usd == pytest.approx(ended.cost_usd, abs=1e-6)
    assert story.events == len(house.story(phone))
    assert story.cut == {}

    here, call = house.stack.nats_url, phone.identity.call_sid
    code, text = await run(tmp_path, "logs", NATS_URL=here, COLUMNS="60")
    assert code == 0, text
    assert call in text
    assert "caller_hung_up" in text
    code, text = await run(tmp_path, "logs", "--call", call, NATS_URL=here)
    assert code == 0, text
    assert "caller  When are you open?" in text
    code, text = await run(tmp_path, "logs", "--call", call, "--json", NATS_URL=here)
    assert code == 0, text
    assert json.loads(text) == story.model_dump(mode="json")
    # Over already: the whole replay, and then the end.
    code, text = await run(tmp_path, "logs", "--call", call, "--follow", NATS_URL=here)
    assert code == 0, text
    assert "From nine to five." in text
    assert "ended: caller_hung_up" in text
    code, text = await run(tmp_path, "logs", "--call", "CA" + "0" * 32, NATS_URL=here)
    assert code == 1
    assert "no record of" in text


async def test_calls_are_followed_as_they_happen(build: HouseOf, tmp_path: pathlib.Path) -> None:
    house = await acme(build)
    out = tmp_path / "follow.txt"
    with out.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("logs", "--follow"),
            cwd=tmp_path,
            env=surroundings(tmp_path, NATS_URL=house.stack.nats_url),
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        await eventually(lambda: "waiting for calls" in out.read_text(), 30)
        async with house.phone() as phone:
            await question_and_answer(house, phone)
        await eventually(lambda: "ended: caller_hung_up" in out.read_text())
        text = out.read_text()
        assert phone.identity.call_sid[:8] in text
        assert "When are you open?" in text
    finally:
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_a_service_that_is_killed_in_mid_call_misses_nothing(build: HouseOf) -> None:
    house = await acme(build)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        house.stack.child("logs").kill()
        await house.stack.child("logs").wait()
        await phone.say("When are you open?")
        await phone.wait_agent_turn()
        await phone.hang_up()
        await house.ended(phone)
    again = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.logs"),
        env=surroundings(house.stack.options.data, NATS_URL=house.stack.nats_url),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: _answers(house), 30)
        await eventually(lambda: told(house, phone), 30)
        await eventually(lambda: _complete(house, phone), 30)
    finally:
        again.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(again.wait(), 20) == 0


async def _answers(house: House) -> bool:
    try:
        await house.bus.request(subjects.LOGS_LIST, b"", timeout=1)
    except (nats.errors.Error, TimeoutError):
        return False
    return True


async def _complete(house: House, phone: Phone) -> bool:
    """Lines that the killed service had not acknowledged come again after a while."""
    found = await told(house, phone)
    return found is not None and found.story.events == len(house.story(phone))


async def test_a_mistake_is_explained(tmp_path: pathlib.Path) -> None:
    code, text = await run(tmp_path, "logs", "--call", "nonsense")
    assert code == 1
    assert "no call's id" in text
    code, text = await run(tmp_path, "logs")
    assert code == 1
    assert "switchboard up" in text
    code, text = await run(tmp_path, "logs", NATS_URL="nats://127.0.0.1:9")
    assert code == 1
    assert "does not answer" in text
