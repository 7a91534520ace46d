"""Plays stories: does each step with the real parts, and compares what came of it with what must come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ops.demo import desk, images, turnstiles
from ops.demo.expectations import Mismatch
from ops.demo.scene import Held, Scene
from ops.demo.steps import Buy, Cut, Forge, LostReply, Move, Race, Refund, Scan, SoldOut, Step, Story, Together
from ops.errors import OpsError
from ticketcore.errors import ParkgateError


@dataclass(frozen=True, slots=True)
class Told:
    """A story that was played: what happened, in a few words each. `failure` is empty when it went as it must."""

    title: str
    said: tuple[str, ...]
    failure: str = ""


async def tell(scene: Scene, story: Story) -> Told:
    """Plays one story. It ends at its first mismatch: what follows would rest on it."""
    said: list[str] = []
    try:
        for step in story.steps:
            said += await perform(scene, step)
    except (Mismatch, OpsError, ParkgateError) as error:
        return Told(story.title, tuple(said), str(error))
    return Told(story.title, tuple(said))


def shorten(said: Sequence[str]) -> list[str]:
    """Repeats of the same are counted: `wheel-1 ADMIT ×10`."""
    lines: list[tuple[str, int]] = []
    for text in said:
        if lines and lines[-1][0] == text:
            lines[-1] = (text, lines[-1][1] + 1)
        else:
            lines.append((text, 1))
    return [f"{text} ×{count}" if count > 1 else text for text, count in lines]


async def perform(scene: Scene, step: Step) -> list[str]:
    """Does one step; answers what happened. Raises: Mismatch."""
    match step:
        case Buy():
            return await desk.buy(scene, step)
        case SoldOut():
            return await desk.sold_out(scene, step)
        case Refund():
            return await desk.refund(scene, step)
        case Move():
            return await desk.move(scene, step)
        case Scan():
            return await turnstiles.show(scene, step)
        case Together():
            return await turnstiles.show_together(scene, step)
        case Race():
            return await turnstiles.race(scene, step)
        case LostReply():
            return await turnstiles.lose_reply(scene, step)
        case Forge(name, of):
            scene.tickets[name] = Held(images.forge(scene.held(of).image, scene.image(name)))
        case Cut(name, of, characters):
            scene.tickets[name] = Held(images.cut(scene.held(of).image, scene.image(name), characters))
    return []
