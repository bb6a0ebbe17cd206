"""Phrases for classes: names, synonyms, and the background's words."""

from __future__ import annotations

from collections.abc import Sequence

from weakclip.errors import WeakClipError


def describe(name: str, synonyms: Sequence[str] = ()) -> str:
    """A name and its synonyms in one phrase ("person, people, human"), as CLIP-ES fuses them."""
    return ", ".join((name, *synonyms))


def fill_template(template: str, phrase: str) -> str:
    """A template such as ``a clean origami {}.`` (CLIP-ES's) around a phrase."""
    return template.replace("{}", phrase)


def check_background_words(classes: Sequence[str], synonyms: Sequence[Sequence[str]], words: Sequence[str]) -> None:
    """Refuses a background word that is a class or one of its synonyms: it would compete with the class for its own patches.

    Cases and blanks do not count. Raises WeakClipError that names the word.
    """
    known = {_plain(word): name for name, others in zip(classes, synonyms, strict=True) for word in (name, *others)}
    for word in words:
        if _plain(word) in known:
            name = known[_plain(word)]
            also = "a class" if _plain(word) == _plain(name) else f"a synonym of the class {name}"
            raise WeakClipError(
                f"the background word {word!r} is {also} as well", "take it out of the block [background] of classes.txt"
            )


def _plain(word: str) -> str:
    return "".join(word.casefold().split())


def photo_of(phrase: str) -> str:
    """CLIP's own template around a phrase."""
    return f"a photo of a {phrase}"


def background_phrases(words: Sequence[str]) -> tuple[str, ...]:
    """What stands for the background: its words, or the word itself where a class list names none."""
    return tuple(words) or ("background",)
