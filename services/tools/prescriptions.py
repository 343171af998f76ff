"""The tool `fetch_prescription_status`: tells of prescriptions, to the owner and to nobody else."""

import datetime
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, cast

from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from services.tools import metrics
from services.tools.database import (
    AsyncSession,
    Database,
    Guesses,
    Owner,
    Patient,
    Prescription,
)
from services.tools.identity import Candidate, Factors, Verdict, e164, judge
from services.tools.registry import Arguments, Context, tool
from services.tools.spoken_dates import TEXT_MAX_CHARACTERS, read_date

#: Patients of one name that are looked at: more would mean that names are not names.
CANDIDATES_MAX: Final = 1000
#: Prescriptions in one answer: what a caller can listen to.
PRESCRIPTIONS_MAX: Final = 12
#: A call is over by then.
FORGET_GUESSES_H: Final = 24

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def _speakable(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("it holds characters that nobody can say")
    return text


Said = Annotated[str, AfterValidator(_speakable)]


class Claim(Arguments):
    """Who calls for whom."""

    patient_name: Said = Field(
        min_length=1, max_length=100, description="the animal's name, as the caller says it"
    )
    date_of_birth: Said = Field(
        default="",
        max_length=TEXT_MAX_CHARACTERS,
        description="the owner's date of birth as the caller said it, best as YYYY-MM-DD; leave "
        "it out until the caller has said it",
    )
    owner_name: Said = Field(
        default="",
        max_length=100,
        description="the owner's name; only needed when the answer asks for it",
    )


class Line(BaseModel):
    """One prescription, as it is told."""

    patient: str
    species: str
    medication: str
    strength: str
    price: str
    status: str
    refills_left: int
    veterinarian: str
    clinic: str


class Verified(BaseModel):
    """The owner calls: everything that was asked for."""

    status: Literal["verified"] = "verified"
    prescriptions: list[Line]


class NotTold(BaseModel):
    """Nothing is told.  These answers are constants: there is nothing in them to learn from."""

    status: Literal["verification_needed", "not_verified", "several_matches", "locked"]
    message: str
    ask_for: Literal["date_of_birth", "owner_name", "nothing"]


NEEDED: Final = NotTold(
    status="verification_needed",
    message="Ask for the date of birth of the animal's owner, to know who calls.",
    ask_for="date_of_birth",
)
UNCLEAR: Final = NotTold(
    status="verification_needed",
    message="That was not one clear date. Ask for the owner's date of birth again: the day, the "
    "month's name, and the full year.",
    ask_for="date_of_birth",
)
NOT_VERIFIED: Final = NotTold(
    status="not_verified",
    message="These details do not match our records. Ask the caller to check the animal's name "
    "and the owner's date of birth.",
    ask_for="date_of_birth",
)
SEVERAL: Final = NotTold(
    status="several_matches",
    message="Ask for the full name of the animal's owner.",
    ask_for="owner_name",
)
LOCKED: Final = NotTold(
    status="locked",
    message="Too many wrong details in this call. Nothing more can be told in it; the caller may "
    "ask at the clinic.",
    ask_for="nothing",
)


class Prescriptions:
    """The tool, over a database."""

    def __init__(self, database: Database, *, tries: int, verify_by_number: bool) -> None:
        self._database = database
        self._tries = tries
        self._verify_by_number = verify_by_number

    @tool(
        description="The status of an animal's prescriptions: medication, price, whether it is "
        "ready, refills, veterinarian, clinic. Tells nothing before the caller is verified: call "
        "it with the patient's name first, and do what the answer asks for.",
        timeout_ms=8000,
        idempotent=True,
    )
    async def fetch_prescription_status(
        self, arguments: Claim, context: Context
    ) -> Verified | NotTold:
        answer = await self._answer(arguments, context)
        metrics.PRESCRIPTIONS.labels(answer.status).inc()
        return answer

    async def _answer(self, claim: Claim, context: Context) -> Verified | NotTold:
        born: datetime.date | None = None
        if claim.date_of_birth:
            born = read_date(claim.date_of_birth)
            if born is None:
                return UNCLEAR
        factors = Factors(
            date_of_birth=born.isoformat() if born else "",
            number=self._number(context),
            owner_name=claim.owner_name,
        )
        async with self._database.session() as session:
            # One call's requests wait here for each other, at all instances: side by side they
            # have no more tries than one after the other.
            wrong = await _count(session, self._database.dialect, context.call, 0)
            if wrong >= self._tries:
                return LOCKED
            verdict, patients = judge(await _candidates(session, claim.patient_name), factors)
            if verdict is Verdict.NOT_VERIFIED:
                await _count(session, self._database.dialect, context.call, 1)
            if verdict is Verdict.VERIFIED:
                return Verified(prescriptions=await _lines(session, patients))
        match verdict:
            case Verdict.NEEDED:
                return NEEDED
            case Verdict.SEVERAL:
                return SEVERAL
            case Verdict.NOT_VERIFIED:
                return NOT_VERIFIED

    def _number(self, context: Context) -> str:
        """The number that calls, if a telephone network vouches for it."""
        if not self._verify_by_number or context.direction == "browser":
            return ""
        return e164(context.caller)


async def _count(session: AsyncSession, dialect: str, call: str, more: int) -> int:
    """Add `more` to the wrong guesses of `call`, and lock its count; the sum."""
    insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = (
        insert(Guesses)
        .values(call=call, wrong=more)
        .on_conflict_do_update(index_elements=[Guesses.call], set_={"wrong": Guesses.wrong + more})
        .returning(Guesses.wrong)
    )
    wrong = (await session.execute(statement)).scalar_one()
    old = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=FORGET_GUESSES_H)
    await session.execute(delete(Guesses).where(Guesses.at < old))
    return cast("int", wrong)


async def _candidates(session: AsyncSession, name: str) -> list[Candidate]:
    """Every patient of this name."""
    rows = await session.execute(
        select(Patient.id, Owner.id, Owner.name, Owner.date_of_birth, Owner.phone)
        .join(Owner, Patient.owner_id == Owner.id)
        # SQLite knows upper and lower case of ASCII only.
        .where(or_(func.lower(Patient.name) == name.lower(), Patient.name == name))
        .limit(CANDIDATES_MAX)
    )
    return [
        Candidate(patient, owner, owner_name, born.isoformat(), phone)
        for patient, owner, owner_name, born, phone in rows
    ]


async def _lines(session: AsyncSession, patients: Sequence[str]) -> list[Line]:
    rows = await session.execute(
        select(Prescription, Patient)
        .join(Patient, Prescription.patient_id == Patient.id)
        .where(Prescription.patient_id.in_(patients))
        .order_by(Patient.name, Patient.species, Prescription.medication, Prescription.id)
        .limit(PRESCRIPTIONS_MAX)
    )
    return [_line(prescription, patient) for prescription, patient in rows]


def _line(prescription: Prescription, patient: Patient) -> Line:
    return Line(
        patient=patient.name,
        species=patient.species,
        medication=prescription.medication,
        strength=prescription.strength,
        price=price(prescription.price_cents),
        status=prescription.status,
        refills_left=prescription.refills,
        veterinarian=prescription.veterinarian,
        clinic=prescription.clinic,
    )


def price(cents: int) -> str:
    """`$100`, `$34.50`."""
    dollars, rest = divmod(cents, 100)
    return f"${dollars}.{rest:02}" if rest else f"${dollars}"
