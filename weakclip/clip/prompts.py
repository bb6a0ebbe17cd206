"""Phrases for classes: names, synonyms, and the background's words."""

from __future__ import annotations

from collections.abc import Sequence


def describe(name: str, synonyms: Sequence[str] = ()) -> str:
    """A name and its synonyms in one phrase ("person, people, human"), as CLIP-ES fuses them."""
    return ", ".join((name, *synonyms))


def photo_of(phrase: str) -> str:
    """CLIP's own template around a phrase."""
    return f"a photo of a {phrase}"


def background_phrases(words: Sequence[str]) -> tuple[str, ...]:
    """What stands for the background: its words, or the word itself where a class list names none."""
    return tuple(words) or ("background",)
