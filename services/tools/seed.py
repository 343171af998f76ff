"""Sample patients for an empty database: enough to try every answer of the prescriptions' tool.

The people are invented; their numbers are of the range that is kept free for stories.
"""

import datetime

from services.tools.database import Base, Owner, Patient, Prescription


def samples() -> list[Base]:
    """New rows with fixed ids, owners first."""
    return [
        _owner("whitfield", "Jamie Whitfield", datetime.date(1985, 3, 14), "+12025550143"),
        _owner("bell", "Marcus Bell", datetime.date(1972, 11, 2), "+12025550178"),
        _owner("okafor", "Adaeze Okafor", datetime.date(1990, 7, 29), "+12025550119"),
        _owner("lindqvist", "Karin Lindqvist", datetime.date(1964, 1, 8), "+12025550186"),
        _patient("rosie-dog", "whitfield", "Rosie", "dog"),
        _patient("rosie-cat", "bell", "Rosie", "cat"),
        _patient("bandit", "okafor", "Bandit", "dog"),
        _patient("luna", "lindqvist", "Luna", "cat"),
        Prescription(
            id="sample-1",
            patient_id="rosie-dog",
            medication="Simparica-Trio",
            strength="30 mg tablet",
            price_cents=10_000,
            status="ready for pickup",
            refills=3,
            veterinarian="Dr. Suzy Greenberg",
            clinic="Forbin's Veterinary Clinic",
        ),
        Prescription(
            id="sample-2",
            patient_id="rosie-cat",
            medication="Methimazole",
            strength="5 mg tablet",
            price_cents=3_450,
            status="being prepared, ready tomorrow after noon",
            refills=1,
            veterinarian="Dr. Esther Nakamura",
            clinic="Forbin's Veterinary Clinic",
        ),
        Prescription(
            id="sample-3",
            patient_id="bandit",
            medication="Apoquel",
            strength="16 mg tablet",
            price_cents=8_925,
            status="waiting for the veterinarian's approval",
            refills=0,
            veterinarian="Dr. Suzy Greenberg",
            clinic="Forbin's Veterinary Clinic",
        ),
        Prescription(
            id="sample-4",
            patient_id="bandit",
            medication="Carprofen",
            strength="75 mg chewable tablet",
            price_cents=4_200,
            status="picked up",
            refills=2,
            veterinarian="Dr. Esther Nakamura",
            clinic="Harbor Street Animal Hospital",
        ),
        Prescription(
            id="sample-5",
            patient_id="luna",
            medication="Gabapentin",
            strength="50 mg capsule",
            price_cents=2_800,
            status="out of stock, expected within three days",
            refills=5,
            veterinarian="Dr. Omar Reyes",
            clinic="Harbor Street Animal Hospital",
        ),
    ]


def _owner(key: str, name: str, born: datetime.date, phone: str) -> Owner:
    return Owner(id=key, name=name, date_of_birth=born, phone=phone)


def _patient(key: str, owner: str, name: str, species: str) -> Patient:
    return Patient(id=key, owner_id=owner, name=name, species=species)
