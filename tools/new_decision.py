"""Start a decision record with the next number: ./just new-decision "Title"."""

import re
import sys
from pathlib import Path
from typing import Final

DECISIONS: Final = Path(__file__).resolve().parent.parent / "decisions"

TEMPLATE: Final = """\
# {number:04}. {title}

## Context

What forces the choice.

## Decision

> One sentence that can be quoted.

## Consequences

What becomes easier, what harder.

## Alternatives

What else was weighed, and why not.

## Enforced by

The check that fails when this is forgotten.
"""


def main() -> int:
    """Write the record and print its path; one page, never rewritten later."""
    title = " ".join(sys.argv[1:]).strip()
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    if not slug:
        print('give a title: ./just new-decision "Title"', file=sys.stderr)
        return 2
    numbers = [
        int(path.name[:4]) for path in DECISIONS.glob("[0-9][0-9][0-9][0-9]-*.md")
    ]
    number = max(numbers, default=0) + 1
    record = DECISIONS / f"{number:04}-{slug}.md"
    DECISIONS.mkdir(exist_ok=True)
    record.write_text(TEMPLATE.format(number=number, title=title))
    print(record.relative_to(DECISIONS.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
