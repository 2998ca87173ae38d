"""Rules that find people, places and dates in a text, and fill a JSON schema with them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_DATE = re.compile(rf"(?:(?:\d{{1,2}} )?{_MONTH} )?\b(?:1\d|20)\d\d\b")
_WORD = r"[A-Z][\w'-]*"
_NAME = rf"{_WORD}(?: (?:(?:d[aeu]|of|the|v[ao]n) )*{_WORD})*"
_NEAR = "along|at|from|in|near|of|off|on|over|through|to|under|up"
_PLACE = re.compile(rf"\b(?i:{_NEAR}) (?:the )?(?!{_MONTH})({_NAME})")
_PERSON = re.compile(rf"\b(?!Before |From |In |The )({_WORD}(?: (?:(?:d[aeu]|v[ao]n) )*{_WORD})+)")
_AGED = re.compile(rf"({_WORD}) is (\d+)(?: years old)?")
_SENTENCE = re.compile(r"[^.]+\.?")


@dataclass(frozen=True)
class Reading:
    """What the rules understand of a text."""

    text: str

    @property
    def people(self) -> list[str]:
        """Names before an age, else capitalised words in a row that name no place."""
        aged = [name for name, _ in _AGED.findall(self.text)]
        return aged or [name for name in _PERSON.findall(self.text) if name not in self.places]

    @property
    def places(self) -> list[str]:
        """Capitalised words after a preposition."""
        return _PLACE.findall(self.text)

    @property
    def dates(self) -> list[str]:
        """Years, with the day and month before them."""
        return _DATE.findall(self.text)

    def words_for(self, field: str) -> list[str]:
        """Give what answers to a field of this name; the first sentence if it is no kind known."""
        for kind, names in _KINDS.items():
            if field in names:
                return list(dict.fromkeys(getattr(self, kind)))
        return _SENTENCE.findall(self.text)[:1]

    def number_for(self, field: str) -> int | None:
        """Give the year, the age or the first number of the text."""
        pattern = {"year": r"\b((?:1\d|20)\d\d)\b", "age": r" is (\d+)"}.get(field, r"(\d+)")
        found = re.search(pattern, self.text)
        return int(found[1]) if found else None

    def sentences(self) -> list[Reading]:
        """Give the sentences that tell of somebody, each as a reading of its own."""
        readings = [Reading(sentence) for sentence in _SENTENCE.findall(self.text)]
        return [reading for reading in readings if reading.people]


_KINDS = {
    "people": ("name", "people", "person", "who"),
    "places": ("city", "country", "place", "places", "where"),
    "dates": ("date", "dates", "when"),
}


def fill(schema: Schema, reading: Reading, field: str, root: Schema) -> Any:
    """Give a value that fits *schema*, read from the text; None where it says nothing."""
    schema = _resolved(schema, root)
    if "enum" in schema:
        text = reading.text.lower()
        return next((each for each in schema["enum"] if str(each) in text), schema["enum"][0])
    return _FILLERS.get(schema.get("type", ""), _string)(schema, reading, field, root)


def _resolved(schema: Schema, root: Schema) -> Schema:
    if "$ref" in schema:
        return _resolved(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return _resolved(next(s for s in schema["anyOf"] if s.get("type") != "null"), root)
    return schema


def _object(schema: Schema, reading: Reading, field: str, root: Schema) -> Any:
    fields = schema.get("properties", {})
    return {name: fill(inner, reading, name, root) for name, inner in fields.items()}


def _array(schema: Schema, reading: Reading, field: str, root: Schema) -> Any:
    items = _resolved(schema.get("items", {}), root)
    if items.get("type") == "object":
        return [fill(items, each, field, root) for each in reading.sentences()]
    return reading.words_for(field)


def _integer(schema: Schema, reading: Reading, field: str, root: Schema) -> Any:
    return reading.number_for(field)


def _boolean(schema: Schema, reading: Reading, field: str, root: Schema) -> Any:
    return field.replace("_", " ") in reading.text.lower()


def _string(schema: Schema, reading: Reading, field: str, root: Schema) -> Any:
    return next(iter(reading.words_for(field)), None)


_FILLERS = {
    "object": _object,
    "array": _array,
    "integer": _integer,
    "number": _integer,
    "boolean": _boolean,
}
