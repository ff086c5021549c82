"""The searches from the command line: ``python -m tests.model [--soak] [--mutations]``."""

from __future__ import annotations

import argparse
import sys

from .bounds import EVERYDAY, SOAK
from .mutations import caught, mutations
from .search import Found, Search


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description="Search the ownership machine.")
    parser.add_argument("--soak", action="store_true", help="the large searches; minutes")
    parser.add_argument("--mutations", action="store_true", help="each wrong machine, with its shortest story")
    options = parser.parse_args()
    if options.mutations:
        return _show_mutations()
    found = [_show(Search(bounds).run()) for bounds in (SOAK if options.soak else EVERYDAY)]
    states, transitions = sum(each.states for each in found), sum(each.transitions for each in found)
    print(f"{'together':<9} {states:>8,} states {transitions:>10,} transitions")
    return int(any(each.violation for each in found))


def _show(found: Found) -> Found:
    print(found, *(f"\n    {label}" for label in found.trace), sep="", flush=True)
    return found


def _show_mutations() -> int:
    missed = 0
    for mutation in mutations():
        found = caught(mutation)
        missed += not found.violation
        print(f"\n{mutation.name}: {found.violation or 'NOT CAUGHT'}  ({found.bounds}, {len(found.trace)} steps)")
        print(*(f"  {number}. {label}" for number, label in enumerate(found.trace, 1)), sep="\n", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
