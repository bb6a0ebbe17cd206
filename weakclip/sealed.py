"""JSON documents that carry a checksum of what they say: damage shows, even where it leaves valid JSON behind."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

SEAL: Final = "checksum"


def sealed(content: Mapping[str, object]) -> dict[str, object]:
    """The content, and last its checksum.

    That stands in a list, because DVC takes the numbers and texts of a metrics file for figures, but not its lists.
    """
    return {**content, SEAL: [digest(canonical(content))]}


def unsealed(document: bytes) -> dict[str, Any]:
    """The content of a document that was made of what `sealed` returns.

    Raises:
        ValueError: it is no such document, or is damaged.
    """
    content, seal = parsed(document)
    compare(seal, canonical(content))
    return content


def parsed(document: bytes) -> tuple[dict[str, Any], object]:
    """The content of such a document, and what stands for its checksum. Raises ValueError where it is none."""
    try:
        content = json.loads(document)
    except RecursionError as error:
        raise ValueError(f"it is lists in lists without end: {error}") from error
    if not isinstance(content, dict) or SEAL not in content:
        raise ValueError(f"it is no JSON object with a {SEAL}")
    seal = content.pop(SEAL)
    return content, seal


def canonical(content: object) -> Iterable[str]:
    """The text, in parts, of which the checksum is taken: keys ascend."""
    # As it comes back from a file: keys are texts there, and tuples lists.
    read = json.loads(json.dumps(content, allow_nan=False))
    return json.JSONEncoder(sort_keys=True, allow_nan=False).iterencode(read)


def compare(seal: object, text: Iterable[str]) -> None:
    """Raises ValueError where a checksum is not that of a text in parts."""
    if seal != [digest(text)]:
        raise ValueError(f"its content does not match its {SEAL}")


def digest(text: Iterable[str]) -> str:
    """The checksum of a text in parts."""
    value = hashlib.blake2b(digest_size=8)
    for part in text:
        value.update(part.encode())
    return value.hexdigest()
