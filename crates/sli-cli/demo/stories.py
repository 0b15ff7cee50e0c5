"""Short generated stories: more text like that in corpus/, lest the model learn that one by heart.

The grammar (stories.grammar) has two kinds of entries:

    rule NAME            one alternative per line; a use picks one at random that the story has not used yet
    table NAME: A | B    one row per line; a story picks one row and keeps it, so that a smith stays a smith

Texts refer to them as {rule} and {table.column}; {Rule} and {Table.column} give a capital first letter.
`hero` and `friend` are two different rows of the table `person`.
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
        text = re.sub(r"(?m)^#.*\n", "", path.read_text())
        for entry in text.strip().split("\n\n"):
            head, *lines = [line.strip() for line in entry.strip().splitlines()]
            kind, name = head.split(" ", 1)
            if kind == "rule":
                self.rules[name] = lines
            else:
                name, columns = name.split(":")
                self.tables[name] = [dict(zip(cells(columns), cells(line), strict=True)) for line in lines]

    def story(self, rng: random.Random) -> str:
        """One story, a single paragraph."""
        return Telling(self, rng).expand("{story}")


class Telling:
    """The choices that stay the same while one story is told."""

    def __init__(self, grammar: Grammar, rng: random.Random):
        self.rng = rng
        self.cast = {name: rng.choice(rows) for name, rows in grammar.tables.items() if name != "person"}
        self.cast["hero"], self.cast["friend"] = rng.sample(grammar.tables["person"], 2)
        self.rules = grammar.rules
        self.left: dict[str, list[str]] = {}

    def expand(self, text: str) -> str:
        """`text` with every reference in it replaced, and those in the replacements."""
        return REFERENCE.sub(self.replacement, text)

    def replacement(self, reference: re.Match) -> str:
        name, column = reference.groups()
        entry = name.lower()
        word = self.cast[entry][column] if column else self.expand(self.alternative(entry))
        return word[0].upper() + word[1:] if name[0].isupper() else word

    def alternative(self, rule: str) -> str:
        if not self.left.get(rule):
            self.left[rule] = self.rng.sample(self.rules[rule], len(self.rules[rule]))
        return self.left[rule].pop()


def cells(line: str) -> list[str]:
    """The cells of a table's line."""
    return [cell.strip() for cell in line.split("|")]
