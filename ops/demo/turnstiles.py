"""Steps at the gates: images are shown, alone, together, at several gates at once, and over a line that is cut."""

from __future__ import annotations

import asyncio

from ops.demo.expectations import Mismatch, expect
from ops.demo.gates import Asked, decision_of, kind_of, reason_of
from ops.demo.scene import CUT_TURNSTILE, Scene
from ops.demo.steps import ADMIT, LostReply, Race, Scan, Together
from parkgate.gate.v1 import gate_pb2


async def show(scene: Scene, step: Scan) -> list[str]:
    """One image at one gate."""
    device = scene.turnstiles[step.gate]
    asked = Asked(step.persons, step.leaving, step.proof)
    scan = device.make(step.gate, scene.code(step.name), asked)
    verdict = await device.check(scan, passed=step.passed)
    await device.settle()
    what = f"{step.name} at {step.gate}"
    expect(what, step.expect, outcome(verdict))
    for part, wanted, actual in _details(scene, step, verdict):
        if wanted is not None:
            expect(f"{what}, {part}", str(wanted), str(actual))
    return [_said(step, verdict)]


def _details(scene: Scene, step: Scan, verdict: gate_pb2.Verdict) -> list[tuple[str, object, object]]:
    first = scene.catalogue.gate_by_number.get(verdict.first_use.gate_number)
    return [
        ("kind", step.kind, kind_of(verdict)),
        ("persons admitted", step.admitted, verdict.persons_admitted),
        ("persons to come", step.to_come, verdict.persons_remaining),
        ("entries left", step.entries_left, verdict.entries_remaining),
        ("first used at", step.first_gate, first.id if first else "nowhere"),
    ]


def _said(step: Scan, verdict: gate_pb2.Verdict) -> str:
    text = f"{step.gate} {outcome(verdict)}"
    if verdict.decision != gate_pb2.DECISION_ADMIT:
        return text + (f" (first {step.first_gate})" if step.first_gate else "")
    if step.kind in {"EXIT", "REENTRY"}:
        text = f"{step.gate} {'out' if step.leaving else 'in again'}"
    if step.admitted not in {None, 1} or step.to_come is not None:
        text += f" {verdict.persons_admitted}, {verdict.persons_remaining} to come"
    return text + ("" if step.passed else ", given back")


async def show_together(scene: Scene, step: Together) -> list[str]:
    """Many images in one frame."""
    device = scene.turnstiles[step.gate]
    scans = [device.make(step.gate, scene.code(name), Asked(leaving=step.leaving)) for name in step.names]
    verdicts = await device.check_frame(scans)
    await device.settle()
    for name, verdict in zip(step.names, verdicts, strict=True):
        expect(f"{name} at {step.gate}", step.expect, outcome(verdict))
    return [f"{step.gate} {len(scans)} × {'out' if step.leaving else step.expect} in one frame"]


async def race(scene: Scene, step: Race) -> list[str]:
    """One image at several gates; all read it first, so that the scans leave together."""
    devices = [scene.turnstiles[gate] for gate in step.gates]
    scans = [device.make(gate, scene.code(step.name)) for device, gate in zip(devices, step.gates, strict=True)]
    pairs = zip(devices, scans, strict=True)
    verdicts = await asyncio.gather(*(device.check(scan) for device, scan in pairs))
    for device in devices:
        await device.settle()
    heard = {gate: outcome(verdict) for gate, verdict in zip(step.gates, verdicts, strict=True)}
    said = ", ".join(f"{gate} {text}" for gate, text in heard.items())
    wanted = [ADMIT, *("ALREADY_USED" for _ in step.gates[1:])]
    expect(f"{step.name} at {len(step.gates)} gates at once", str(sorted(wanted)), str(sorted(heard.values())))
    winner = next(gate for gate, text in heard.items() if text == ADMIT)
    for gate, verdict in zip(step.gates, verdicts, strict=True):
        if gate != winner:
            first = scene.catalogue.gate_by_number[verdict.first_use.gate_number].id
            expect(f"first use that {gate} heard of", winner, first)
    return [said]


async def lose_reply(scene: Scene, step: LostReply) -> list[str]:
    """The verdict is lost on its way, and asked for again."""
    device = scene.turnstiles[CUT_TURNSTILE]
    scan = device.make(CUT_TURNSTILE, scene.code(step.name))
    cuts, sent = scene.line.cuts, device.client.session.stats.scans_sent
    scene.line.lose_next_reply()
    verdict = await device.check(scan)
    expect("times the line was cut", "1", str(scene.line.cuts - cuts))
    expect(f"{step.name} at {CUT_TURNSTILE} after the retry", step.expect, outcome(verdict))
    times = device.client.session.stats.scans_sent - sent
    if times < 2:
        raise Mismatch("times the same scan_id was sent", "2 or more", str(times))
    again = await device.client.check(scan)
    if again != verdict:
        raise Mismatch("the same scan_id once more", "the same answer", outcome(again))
    await device.settle()
    return [f"{CUT_TURNSTILE} line cut, same scan_id sent {times + 1} ×: {outcome(verdict)} each time"]


def outcome(verdict: gate_pb2.Verdict) -> str:
    """ADMIT, or the reason why not."""
    return reason_of(verdict) or decision_of(verdict)
