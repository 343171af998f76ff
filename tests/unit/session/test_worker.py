"""The session service's shell: a worker in this process, a scripted gateway, a simulated model."""

import asyncio

import pytest

from services.session import events
from services.session.states import Phone
from shared import messages, subjects
from shared.audio import PCMU
from shared.bus import NoResponderError, bucket
from shared.messages import AttachLeg, CallRecord, HangUp, OfferTaken
from simulators.openai_realtime import Faults
from tests.helpers import eventually
from tests.unit.session.house import TIMEOUT_S, House

pytestmark = pytest.mark.e2e


# --- a call --------------------------------------------------------------------------------------


async def test_a_call_is_offered_attached_and_greeted(house: House) -> None:
    worker = await house.worker()
    phone = await house.gateway().begin()
    await eventually(lambda: phone.told("agent_finished_speaking"))
    assert len(phone.audio) == 600 * PCMU.bytes_per_ms
    assert worker.active == 1
    names = [line.NAME for line in phone.story]
    assert names[0] == "offered"
    assert {"model_ready", "started", "agent_started_speaking"} < set(names)
    record = await house.record(phone.call)
    assert (record.state, record.worker, record.leg) == ("live", worker.name, 1)
    phone.say(messages.LegStopped())
    assert (await phone.ended()).reason == "caller_hung_up"
    await eventually(lambda: worker.active == 0)
    assert (await house.record(phone.call)).state == "ended"
    await eventually(lambda: house.model.connections[-1].closed)


async def test_the_caller_is_heard_answered_and_may_interrupt(house: House) -> None:
    await house.worker()
    phone = await house.gateway().begin()
    await eventually(lambda: phone.told("agent_finished_speaking"))
    await phone.speaks()
    await eventually(lambda: len(phone.told("agent_started_speaking")) == 2)
    await phone.speaks()  # over the four seconds of the answer
    await eventually(lambda: phone.told("interrupted"))
    assert messages.Clear() in phone.controls
    cut = phone.told("interrupted")[0]
    assert 0 <= cut.heard_ms < cut.sent_ms
    connection = house.model.connections[-1]
    await eventually(lambda: connection.truncations)
    assert connection.truncations[0] == (cut.item, cut.heard_ms)
    assert not connection.errors


async def test_a_key_pressed_is_told(house: House) -> None:
    await house.worker()
    phone = await house.gateway().begin()
    phone.say(messages.DtmfPressed(digit="7"))
    await eventually(lambda: phone.told("key_pressed"))


async def test_an_operator_ends_a_call(house: House) -> None:
    await house.worker()
    phone = await house.gateway().begin()
    assert await phone.command(HangUp(reason="operator")) == messages.Done()
    assert (await phone.ended()).reason == "operator"
    await eventually(lambda: messages.HangUpLeg(reason="operator") in phone.controls)


async def test_a_command_that_is_none_is_refused(house: House) -> None:
    await house.worker()
    phone = await house.gateway().begin()
    answer = await phone.command(messages.Clear())
    assert isinstance(answer, messages.Refused)
    assert answer.code == "invalid"


async def test_garbage_from_a_gateway_is_survived(house: House) -> None:
    await house.worker()
    phone = await house.gateway().begin()
    for data in (b"", b"null", b'{"type":"mark"}', b"\xff" * 1000, b"[" * 5000):
        await phone.bus.client.publish(subjects.up(phone.call, 1, "ctl"), data)
    phone.say(messages.DtmfPressed(digit="7"))
    await eventually(lambda: phone.told("key_pressed"))


async def test_a_phone_that_comes_back_on_a_new_leg_goes_on(house: House) -> None:
    await house.worker()
    phone = await house.gateway().begin()
    await eventually(lambda: phone.told("agent_finished_speaking"))
    phone.say(messages.LegLost(reason="closed"))
    await eventually(lambda: phone.told("leg_dropped"))
    await phone.attach()
    assert phone.leg == 2
    await eventually(lambda: phone.told("leg_replaced"))
    await phone.speaks()
    await eventually(lambda: len(phone.told("agent_started_speaking")) == 2)
    assert len(house.model.connections) == 1


# --- offers --------------------------------------------------------------------------------------


async def test_an_offer_made_twice_is_answered_the_same(house: House) -> None:
    worker = await house.worker()
    phone = house.gateway()
    first = await phone.offer()
    assert await phone.offer() == first
    assert worker.active == 1


async def test_an_offer_of_a_call_that_is_over_is_refused(house: House) -> None:
    worker = await house.worker()
    phone = await house.gateway().begin()
    await phone.command(HangUp())
    await eventually(lambda: worker.active == 0)
    answer = await phone.offer()
    assert isinstance(answer, messages.OfferRefused)
    assert answer.code == "ended"


async def test_an_offer_that_is_none_is_refused(house: House) -> None:
    await house.worker()
    answer = await house.bus.client.request(subjects.OFFER, b'{"call":"CA.*"}', timeout=TIMEOUT_S)
    refused = messages.OFFER_ANSWER.validate_json(answer.data)
    assert isinstance(refused, messages.OfferRefused)
    assert refused.code == "invalid"


async def test_a_full_worker_leaves_the_group_and_comes_back(house: House) -> None:
    worker = await house.worker(max_calls=1)
    phone = await house.gateway().begin()

    async def nobody() -> bool:
        try:
            answer = await house.gateway().offer()
        except NoResponderError:
            return True
        assert isinstance(answer, messages.OfferRefused), "more calls than places"
        assert answer.code == "full"
        return False

    await eventually(nobody)
    assert worker.active == 1
    await phone.command(HangUp())

    async def somebody() -> bool:
        try:
            return isinstance(await house.gateway().offer(), OfferTaken)
        except NoResponderError:
            return False

    await eventually(somebody)


async def test_many_offers_at_once_are_all_answered_and_none_too_many_taken(house: House) -> None:
    worker = await house.worker(max_calls=3)

    async def offer() -> str:
        try:
            return (await house.gateway().offer()).answer
        except NoResponderError:
            return "nobody"

    answers = await asyncio.gather(*(offer() for _ in range(12)))
    assert answers.count("taken") == 3
    assert worker.active == 3


async def test_a_claim_whose_acknowledgement_was_lost_is_lived_at_the_next_offer(
    house: House,
) -> None:
    worker = await house.worker()
    phone = house.gateway()
    stray = CallRecord(
        call=phone.call, worker=worker.name, offered_at="2026-11-22T10:00:00Z", agent={}
    )
    calls = await bucket(house.bus, subjects.CALLS_BUCKET)
    await calls.create(phone.call, stray.encode())
    await phone.begin()
    await eventually(lambda: phone.told("agent_started_speaking"))


# --- the end of a worker, and of one call only ---------------------------------------------------


async def test_a_worker_that_stops_ends_its_calls_and_takes_no_more(house: House) -> None:
    worker = await house.worker()
    phones = [await house.gateway().begin() for _ in range(3)]
    await worker.stop(0.0)
    for phone in phones:
        assert (await phone.ended()).reason == "worker_stopped"
        assert (await house.record(phone.call)).state == "ended"
    with pytest.raises(NoResponderError):
        await house.gateway().offer()


async def test_a_worker_that_stops_waits_for_its_calls(house: House) -> None:
    worker = await house.worker()
    phone = await house.gateway().begin()
    stopping = asyncio.create_task(worker.stop(TIMEOUT_S))
    await eventually(lambda: worker._group is None)
    phone.say(messages.LegStopped())
    await stopping
    assert (await phone.ended()).reason == "caller_hung_up"


async def test_a_bug_in_one_call_ends_that_call_only(house: House) -> None:
    worker = await house.worker()
    broken, healthy = await house.gateway().begin(), await house.gateway().begin()
    driver = worker._drivers[broken.call]
    driver.call._line.state = Phone.RINGING  # where no leg can be
    driver.feed(events.LegStarted(1))
    ended = await broken.ended()
    assert ended.reason == "failed"
    assert (await house.record(broken.call)).state == "ended"
    await eventually(lambda: messages.HangUpLeg(reason="failed") in broken.controls)
    await eventually(lambda: healthy.told("agent_finished_speaking"))
    assert worker.active == 1


async def test_what_breaks_while_an_action_is_performed_ends_that_call_only(house: House) -> None:
    worker = await house.worker()
    phone = await house.gateway().begin()
    await eventually(lambda: phone.told("model_ready"))
    driver = worker._drivers[phone.call]
    too_long = events.PlayMark("x" * 1000)
    driver._guarded(lambda _now: [too_long])
    assert (await phone.ended()).reason == "failed"
    await eventually(lambda: worker.active == 0)


async def test_a_call_that_somebody_else_wrote_over_is_let_go_without_a_word(house: House) -> None:
    worker = await house.worker()
    phone = await house.gateway().begin()
    record = await house.record(phone.call)
    calls = await bucket(house.bus, subjects.CALLS_BUCKET)
    other = record.model_copy(update={"worker": "w-other", "epoch": 2})
    await calls.put(phone.call, other.encode())
    # The next write of ours finds out.
    await phone.command(AttachLeg(gateway="gw-2", stream="MZ2"))
    await eventually(lambda: worker.active == 0)
    assert phone.told("ended") == []
    assert await house.record(phone.call) == other


# --- the model's faults --------------------------------------------------------------------------


async def test_a_slow_dial_is_waited_for(house: House) -> None:
    house.model.faults = Faults(dial_delay_ms=1500)
    await house.worker()
    phone = await house.gateway().begin()
    await eventually(lambda: phone.told("agent_started_speaking"))
    assert phone.told("model_ready")[0].dial_ms >= 1400
    assert phone.told("model_ready")[0].attempt == 1


async def test_a_refused_dial_is_tried_again(house: House) -> None:
    house.model.faults = Faults(refuse_first_n=2)
    await house.worker()
    phone = await house.gateway().begin()
    await eventually(lambda: phone.told("model_ready"))
    assert phone.told("model_ready")[0].attempt == 3
    assert [line.effect for line in phone.told("model_failed")] == ["redialled"] * 2


async def test_a_wrong_key_ends_the_call_and_is_not_told(house: House) -> None:
    await house.worker(key="sk-wrong-1234567890")
    phone = house.gateway()
    await phone.witness()
    await phone.offer()
    ended = await phone.ended()
    assert ended.reason == "model_unavailable"
    assert "invalid_api_key" in ended.detail
    assert not any(b"1234567890" in line.encode() for line in phone.story)


async def test_a_socket_that_drops_is_replaced_and_told_what_was_said(house: House) -> None:
    await house.worker()
    phone = await house.gateway().begin()
    await eventually(lambda: phone.told("agent_finished_speaking"))
    await phone.speaks()
    await eventually(lambda: len(phone.told("agent_finished_speaking")) == 2)
    house.model.connections[-1].abort()
    await eventually(lambda: len(phone.told("model_ready")) == 2)
    assert phone.told("model_failed")[0].effect == "redialled"
    second = house.model.connections[-1]
    await eventually(lambda: second.received_of("conversation.item.create"))
    items = [one["item"] for one in second.received_of("conversation.item.create")]
    said = [(one["role"], one["content"][0]["text"]) for one in items]
    assert said[0][0] == "system"
    assert said[1:] == [
        ("assistant", "Hello."),
        ("user", "Are you there?"),
        ("assistant", "Yes, I am."),
    ]
    assert second.received_of("response.create") == []
    await phone.speaks()
    await eventually(lambda: len(phone.told("agent_started_speaking")) == 3)


async def test_a_session_that_expires_is_replaced(house: House) -> None:
    house.model.faults = Faults(session_ms=1500, first_n=1)
    await house.worker()
    phone = await house.gateway().begin()
    await eventually(lambda: len(phone.told("model_ready")) == 2)
    assert phone.told("model_failed")[0].code == "session_expired"
    await phone.speaks()
    await eventually(lambda: len(phone.told("agent_started_speaking")) == 2)


async def test_a_model_that_comes_back_with_another_format_ends_the_call(house: House) -> None:
    house.model.faults = Faults(wrong_format=True)
    await house.worker()
    phone = await house.gateway().begin()
    ended = await phone.ended()
    assert (ended.reason, ended.detail) == ("model_unavailable", "format_mismatch")
    assert not phone.audio


async def test_a_model_that_refuses_the_settings_ends_the_call(house: House) -> None:
    house.model.faults = Faults(reject_update=100)
    await house.worker()
    phone = await house.gateway().begin()
    assert (await phone.ended()).reason == "model_unavailable"


async def test_a_call_can_do_without_the_tool_that_the_model_refuses(house: House) -> None:
    house.model.faults = Faults(reject_update=1)
    await house.worker()
    phone = await house.gateway().begin()
    await eventually(lambda: phone.told("agent_started_speaking"))
    assert phone.told("model_failed")[0].effect == "retried"
    assert house.model.connections[-1].config["tools"] == []


async def test_a_failed_response_is_tried_again(house: House) -> None:
    house.model.faults = Faults(fail_response=1)
    await house.worker()
    phone = await house.gateway().begin()
    await eventually(lambda: phone.told("agent_started_speaking"))
    assert phone.told("model_failed")[0].effect == "retried"


async def test_a_model_that_nobody_serves_is_given_up(house: House) -> None:
    await house.worker(url="ws://127.0.0.1:9/v1/realtime")
    phone = house.gateway()
    await phone.witness()
    await phone.offer()
    await eventually(lambda: phone.told("ended"), timeout_s=20.0)
    assert (await phone.ended()).reason == "model_unavailable"
