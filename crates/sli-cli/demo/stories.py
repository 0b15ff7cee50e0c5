"""Short generated stories: more text of the kind that corpus/ holds, so that the model does not learn that by heart.

The grammar (stories.grammar) has two kinds of entries:

    rule NAME            one alternative per line; each use picks one at random
    table NAME: A | B    one row per line; a story picks one row and keeps it, so that a smith stays a smith

and texts refer to them as {rule}, {table.column} or, with a capital first letter, {Table.column}. `hero` and `friend`
are two different rows of the table `person`.
"""

import random
import re
from pathlib import Path

REFERENCE = re.compile(r"\{(\w+)(?:\.(\w+))?\}")


class Grammar:
    """The rules and tables of a grammar file."""

    def __init__(self, path: Path):
        self.rules: dict[str, list[str]] = {}
        self.tables: dict[str, list[dict[str, str]]] = {}
        for entry in re.split(r"\n\s*\n", path.read_text()):
            head, *lines = [line.strip() for line in entry.splitlines() if not line.startswith("#")] or [""]
            kind, _, name = head.partition(" ")
            if kind == "rule":
                self.rules[name] = lines
            elif kind == "table":
                name, _, columns = name.partition(":")
                columns = split_cells(columns)
                self.tables[name] = [dict(zip(columns, split_cells(line), strict=True)) for line in lines]

    def story(self, rng: random.Random) -> str:
        """One story, a single paragraph."""
        cast = {name: rng.choice(rows) for name, rows in self.tables.items() if name != "person"}
        cast["hero"], cast["friend"] = rng.sample(self.tables["person"], 2)
        return self.expand("{story}", cast, rng)

    def expand(self, text: str, cast: dict[str, dict[str, str]], rng: random.Random) -> str:
        """`text` with every reference in it replaced, and those in the replacements."""

        def replacement(reference: re.Match) -> str:
            name, column = reference.groups()
            if column is None:
                return self.expand(rng.choice(self.rules[name]), cast, rng)
            word = cast[name.lower()][column]
            return word.capitalize() if name[0].isupper() else word

        return REFERENCE.sub(replacement, text)


def split_cells(line: str) -> list[str]:
    """The cells of a table's line."""
    return [cell.strip() for cell in line.split("|")]
