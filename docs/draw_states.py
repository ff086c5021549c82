"""Draws the states of a handle and writes down the whole table, both from `trionet.ownership.TABLE`; and HTTP's table.

``python -m docs.draw_states`` writes ``docs/_generated/states.svg``, ``table.md`` and ``http-states.md``; with
``--check`` it writes nothing and fails if the files say something other than the tables do.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from html import escape
from math import hypot
from pathlib import Path
from typing import NamedTuple

from trionet.http.protocol.states import TABLE as HTTP_TABLE
from trionet.http.protocol.states import H1State, Transition
from trionet.ownership import TABLE, Event, Phase, Refuse, Rule

OUT = Path(__file__).parent / "_generated"
LIVE = (Phase.OPEN, Phase.RESERVED, Phase.CLAIMED, Phase.DRAINING)
WIDTH, HEIGHT = 1180, 860
NODE_WIDTH, NODE_HEIGHT = 150, 52

Point = tuple[float, float]

PLACES: dict[Phase, Point] = {
    Phase.RESERVED: (130, 330),
    Phase.OPEN: (470, 190),
    Phase.CLAIMED: (470, 470),
    Phase.DRAINING: (1040, 190),
    Phase.MOVED: (470, 680),
    Phase.CLOSED: (1040, 680),
}


class Route(NamedTuple):
    """How an arrow runs: the control point of its curve, and where its label stands."""

    bend: Point
    label: Point


# A pair that is not named here gets a straight arrow: the drawing is never wrong, at worst it is ugly.
ROUTES: dict[tuple[Phase, Phase], Route] = {
    (Phase.OPEN, Phase.RESERVED): Route((280, 215), (272, 228)),
    (Phase.RESERVED, Phase.OPEN): Route((350, 340), (330, 304)),
    (Phase.RESERVED, Phase.CLAIMED): Route((250, 460), (240, 432)),
    (Phase.OPEN, Phase.CLAIMED): Route((425, 330), (398, 376)),
    (Phase.CLAIMED, Phase.OPEN): Route((550, 330), (560, 330)),
    (Phase.OPEN, Phase.DRAINING): Route((755, 170), (755, 170)),
    (Phase.RESERVED, Phase.DRAINING): Route((170, -50), (440, 62)),
    (Phase.OPEN, Phase.MOVED): Route((860, 480), (668, 556)),
    (Phase.CLAIMED, Phase.MOVED): Route((470, 575), (440, 576)),
    (Phase.OPEN, Phase.CLOSED): Route((900, 330), (842, 342)),
    (Phase.CLAIMED, Phase.CLOSED): Route((760, 490), (790, 540)),
    (Phase.DRAINING, Phase.CLOSED): Route((1040, 440), (1050, 430)),
    (Phase.RESERVED, Phase.CLOSED): Route((100, 860), (420, 762)),
}

STYLE = """
  text { font: 13px sans-serif; fill: #222 }
  .phase { font: bold 15px sans-serif }
  .live { fill: #eaf3ff; stroke: #2b6cb0; stroke-width: 2 }
  .ended { fill: #f1f1f1; stroke: #555; stroke-width: 2 }
  .arrow { fill: none; stroke: #666; stroke-width: 1.4; }
  .head { fill: #666 }
  .paper { fill: #fff; fill-opacity: 0.9 }
"""


# --- reading the table -----------------------------------------------------------------------------------------------


def transitions() -> dict[tuple[Phase, Phase], list[str]]:
    """What leads from one phase to another: the events, with the condition where it is not the ordinary case."""
    found: defaultdict[tuple[Phase, Phase], list[str]] = defaultdict(list)
    for (phase, event), answer in TABLE.items():
        if isinstance(answer, Refuse):
            continue
        if answer.phase is not None:
            found[phase, answer.phase].append(event.value)
        for check in answer.checks:
            if isinstance(check.otherwise, Rule) and check.otherwise.phase is not None:
                found[phase, check.otherwise.phase].append(f"{event.value}, if {_negated(check.name)}")
    return dict(found)


def _negated(name: str) -> str:
    return name.removeprefix("not ") if name.startswith("not ") else f"not {name}"


def from_everywhere(arrows: dict[tuple[Phase, Phase], list[str]]) -> list[str]:
    """What closes a handle in every live phase: said once, instead of on four arrows."""
    return [words for words in arrows[Phase.OPEN, Phase.CLOSED] if all(words in arrows[p, Phase.CLOSED] for p in LIVE)]


def describe(answer: Rule | Refuse) -> str:
    """One cell of the table, in words."""
    if isinstance(answer, Refuse):
        return f"*{answer.kind.value}*"
    parts = [_changes(answer)] if _changes(answer) else []
    parts += [f"needs “{check.name}”, else {_otherwise(check.otherwise)}" for check in answer.checks]
    parts += [effect.name.lower().replace("_", " ") for effect in answer.effects]
    return "; ".join(parts) or "\N{EN DASH}"


def _changes(rule: Rule) -> str:
    words = []
    if rule.phase is not None:
        words.append(f"**{rule.phase.name}**" + (f" ({rule.reason.value})" if rule.reason else ""))
    if rule.receive is not None:
        words.append(f"receive {rule.receive.name}")
    if rule.send is not None:
        words.append(f"send {rule.send.name}")
    if rule.leases:
        words.append(f"leases {rule.leases:+d}")
    if rule.reset:
        words.append("cut-off noted" if rule.cut_off else "reset noted")
    if rule.settles:
        words.append("then, if quiet, “nothing in progress any more”")
    return ", ".join(words)


def _otherwise(answer: Rule | Refuse) -> str:
    return describe(answer) if isinstance(answer, Refuse) or answer != Rule() else "nothing"


def table() -> str:
    """All answers as a Markdown table."""
    lines = ["| event | " + " | ".join(phase.name for phase in Phase) + " |", "| --- " * (len(Phase) + 1) + "|"]
    lines += [
        f"| {event.value} | " + " | ".join(describe(TABLE[phase, event]) for phase in Phase) + " |" for event in Event
    ]
    return "\n".join(lines) + "\n"


def http_table() -> str:
    """Where each transition leads from each state of one direction of an HTTP/1.1 connection."""
    lines = ["| | " + " | ".join(state.name for state in H1State) + " |", "| --- " * (len(H1State) + 1) + "|"]
    for transition in Transition:
        cells = [after.name if after is not None else "\N{EN DASH}" for after in HTTP_TABLE[transition].values()]
        lines.append(f"| {transition.value} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


HTTP_TITLE = """# The states of an HTTP/1.1 connection

Each side keeps two of them: one for the messages that it writes, one for those that it reads. An exchange takes both
from IDLE to DONE. A dash stands where the transition is refused, or cannot happen.

"""


# --- drawing ---------------------------------------------------------------------------------------------------------


def svg() -> str:
    """The phases as boxes, and what leads from one to another as arrows."""
    arrows = transitions()
    common = from_everywhere(arrows)
    body = []
    labels = []
    for (source, target), words in sorted(arrows.items(), key=lambda item: (item[0][0].value, item[0][1].value)):
        own = [each for each in words if not (target is Phase.CLOSED and each in common)]
        if own and source is not target:
            route = ROUTES.get((source, target)) or _straight(source, target)
            body.append(_arrow(source, target, route))
            labels.append(_label(route.label, own))
    body += labels
    body += [_node(phase, place) for phase, place in PLACES.items()]
    note = "From every live phase to CLOSED: " + ", ".join(common) + ". Nothing leads out of MOVED and CLOSED."
    body.append(f'<text x="24" y="{HEIGHT - 20}">{escape(note)}</text>')
    return _page("\n".join(body))


def _page(body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        f"<title>The phases of a handle</title>\n<style>{STYLE}</style>\n"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n{body}\n</svg>\n'
    )


def _straight(source: Phase, target: Phase) -> Route:
    (x1, y1), (x2, y2) = PLACES[source], PLACES[target]
    middle = (x1 + x2) / 2, (y1 + y2) / 2
    return Route(middle, middle)


def _arrow(source: Phase, target: Phase, route: Route) -> str:
    (x1, y1), (x2, y2) = _border(PLACES[source], route.bend), _border(PLACES[target], route.bend)
    bend_x, bend_y = route.bend
    line = f'<path class="arrow" d="M{x1:.0f} {y1:.0f} Q{bend_x:.0f} {bend_y:.0f} {x2:.0f} {y2:.0f}"/>'
    return line + _head((x2, y2), route.bend)


def _head(tip: Point, origin: Point) -> str:
    """An arrow's head, as a shape of its own: not every viewer turns markers."""
    dx, dy = tip[0] - origin[0], tip[1] - origin[1]
    length = hypot(dx, dy) or 1.0
    dx, dy = dx / length, dy / length
    back = tip[0] - 11 * dx, tip[1] - 11 * dy
    points = (tip, (back[0] - 5 * dy, back[1] + 5 * dx), (back[0] + 5 * dy, back[1] - 5 * dx))
    return f'<polygon class="head" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def _border(centre: Point, towards: Point) -> Point:
    """Where the line from the middle of a box leaves the box."""
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    length = hypot(dx, dy) or 1.0
    reach = min(
        (NODE_WIDTH / 2 + 4) / (abs(dx) / length or 1e-9),
        (NODE_HEIGHT / 2 + 4) / (abs(dy) / length or 1e-9),
    )
    return centre[0] + dx / length * reach, centre[1] + dy / length * reach


def _label(place: Point, words: list[str]) -> str:
    x, y = place
    top = y - 8 * (len(words) - 1)
    width = max(map(len, words)) * 6.4 + 8
    lines = [
        f'<text x="{x:.0f}" y="{top + 16 * i + 4:.0f}" text-anchor="middle">{escape(each)}</text>'
        for i, each in enumerate(words)
    ]
    paper = f'<rect class="paper" x="{x - width / 2:.0f}" y="{top - 11:.0f}" width="{width:.0f}"'
    return f'{paper} height="{16 * len(words) + 4}"/>' + "".join(lines)


def _node(phase: Phase, place: Point) -> str:
    x, y = place
    kind = "ended" if phase.terminal else "live"
    box = f'<rect class="{kind}" x="{x - NODE_WIDTH / 2:.0f}" y="{y - NODE_HEIGHT / 2:.0f}"'
    size = f'width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="10"/>'
    return f'{box} {size}<text class="phase" x="{x}" y="{y + 5}" text-anchor="middle">{phase.name}</text>'


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the states of a handle from the table.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the files differ")
    check = parser.parse_args().check
    status = 0
    files = {
        "states.svg": svg(),
        "table.md": f"# What each event does in each phase\n\n{table()}",
        "http-states.md": HTTP_TITLE + http_table(),
    }
    for name, text in files.items():
        path = OUT / name
        if not check:
            OUT.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path} differs from the table: run python -m docs.draw_states", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
