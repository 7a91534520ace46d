"""What happens on the demo's day, and what must come of it. Sizes are those of the demo's catalogue (`ops.demo.park`).

The park's clock stands between 18:20 and 19:20, so that the evening ticket is valid and the first night show is open.
"""

from __future__ import annotations

from ops.demo.park import SLOT_QUOTA, WATER_CAPACITY
from ops.demo.steps import Buy, Cut, Forge, LostReply, Move, Race, Refund, Scan, SoldOut, Story, Together, names

FULL = WATER_CAPACITY
LAST = SLOT_QUOTA - 5

STORIES: tuple[Story, ...] = (
    Story(
        "A guest pays cash and comes in",
        (Buy("anna", "day"), Scan("anna", "main-1", kind="ENTRY", admitted=1, entries_left=0)),
    ),
    Story(
        "Paid by the provider, its webhook signed",
        (Buy("ben", "evening", pay="provider", window="w2"), Scan("ben", "lake-1", kind="ENTRY")),
    ),
    Story(
        "One ticket at two gates at once",
        (Buy("twin", "day"), Race("twin", ("main-1", "main-2"))),
    ),
    Story(
        "The reply is lost, the turnstile retries",
        (Buy("carl", "day"), LostReply("carl"), Scan("carl", "main-2", "ALREADY_USED", first_gate="main-3")),
    ),
    Story("A forged code", (Forge("forged", of="anna"), Scan("forged", "main-1", "BAD_SIGNATURE"))),
    Story("Half a code", (Cut("half", of="anna"), Scan("half", "main-2", "MALFORMED_CODE"))),
    Story(
        "The wrong day, the wrong time",
        (
            Buy("dora", "day", day=1),
            Scan("dora", "main-1", "NOT_YET_VALID"),
            Buy("show", "night-show", slot=3),
            Scan("show", "arena-1", "OUTSIDE_TIME_SLOT"),
        ),
    ),
    Story(
        "The wrong gate",
        (Buy("emil", "day"), Scan("emil", "water-1", "WRONG_GATE"), Scan("emil", "lake-1")),
    ),
    Story(
        "Refunded, then tried all the same",
        (Buy("fred", "day"), Refund("fred"), Scan("fred", "main-1", "REFUNDED"), Refund("fred", "NOT_ALLOWED")),
    ),
    Story("A refund asked after use", (Refund("anna", "ALREADY_USED"),)),
    Story(
        "Moved from tomorrow to today",
        (
            Buy("gina", "evening", day=1, pay="provider", window="w3"),
            Scan("gina", "main-2", "NOT_YET_VALID"),
            Move("gina", to="gina-today", window="w3"),
            Scan("gina", "main-2", "RESCHEDULED"),
            Scan("gina-today", "main-2", kind="ENTRY"),
        ),
    ),
    Story(
        "The night show's slot sells out",
        (
            Buy("row", "night-show", count=5, slot=2),
            SoldOut("night-show", LAST + 1, slot=2, left=LAST),
            Buy("last", "night-show", count=LAST, slot=2, window="w2"),
            SoldOut("night-show", 1, slot=2, left=0),
        ),
    ),
    Story(
        "The night show lets its own slot in",
        (Buy("ida", "night-show", slot=1), Scan("ida", "arena-2", kind="ENTRY")),
    ),
    Story(
        "The water park is full, and empties",
        (
            Buy("swim", "water", count=FULL + 2, window="w3", pay="provider"),
            Together(names("swim", 1, FULL), "water-1"),
            Scan(f"swim-{FULL + 1}", "water-2", "CAPACITY_FULL"),
            Together(names("swim", 1, 2), "water-1", leaving=True),
            Together(names("swim", FULL + 1, FULL + 2), "water-2"),
            Scan("swim-1", "water-2", "CAPACITY_FULL"),
        ),
    ),
    Story(
        "A family of four comes in two parts",
        (
            Buy("family", "family", window="w2"),
            Scan("family", "main-4", persons=3, admitted=3, to_come=1),
            Scan("family", "lake-1", admitted=1, to_come=0),
            Scan("family", "main-4", "ALREADY_USED", first_gate="main-4"),
        ),
    ),
    Story(
        "Out for lunch and back in",
        (
            Buy("hugo", "day"),
            Scan("hugo", "main-1", kind="ENTRY"),
            Scan("hugo", "lake-1", leaving=True, kind="EXIT"),
            Scan("hugo", "main-2", kind="REENTRY"),
            Scan("hugo", "main-1", "ALREADY_USED", first_gate="main-1"),
        ),
    ),
    Story(
        "Admitted, but turns back",
        (
            Buy("jana", "day"),
            Scan("jana", "main-1", passed=False),
            Scan("jana", "main-2", kind="ENTRY"),
            Scan("jana", "main-1", "ALREADY_USED", first_gate="main-2"),
        ),
    ),
    Story(
        "An annual pass shows its identity",
        (
            Buy("karl", "annual", window="w2"),
            Scan("karl", "main-1", "ID_REQUIRED"),
            Scan("karl", "main-1", proof=True, kind="ENTRY"),
            Scan("karl", "main-2", "ALREADY_INSIDE"),
            Scan("karl", "main-1", leaving=True, kind="EXIT"),
            Scan("karl", "main-2", "REENTRY_TOO_SOON"),
        ),
    ),
    Story(
        "A student shows the student card",
        (
            Buy("lena", "day", "student"),
            Scan("lena", "main-4", "CONCESSION_PROOF_REQUIRED"),
            Scan("lena", "main-4", proof=True, kind="ENTRY"),
        ),
    ),
    Story(
        "Ten rides on the Sky Wheel",
        (
            Buy("mia", "wheel-ten", "child", pay="provider", window="w3"),
            *(Scan("mia", "wheel-1", kind="ENTRY", entries_left=9 - ride) for ride in range(10)),
            Scan("mia", "wheel-1", "NO_ENTRIES_LEFT", first_gate="wheel-1"),
        ),
    ),
    Story(
        "A group of ten, one of them free",
        (Buy("group", "day", "group", count=10, free=1, window="w3"), Together(names("group", 1, 10), "main-4")),
    ),
)
