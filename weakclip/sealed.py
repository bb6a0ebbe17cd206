"""JSON documents that carry a checksum of what they say: damage shows, even where it leaves valid JSON behind."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

SEAL: Final = "checksum"


def sealed(content: Mapping[str, object]) -> dict[str, object]:
    """The content, and last its checksum.

    That stands in a list, because DVC takes the numbers and texts of a metrics file for figures, but not its lists.
    """
    # As it comes back from a file: keys are texts there, and tuples lists.
    read = json.loads(json.dumps(content, allow_nan=False))
    return {**content, SEAL: [_digest(read)]}


def unsealed(document: bytes) -> dict[str, Any]:
    """The content of a document that was made of what `sealed` returns.

    Raises:
        ValueError: it is no such document, or is damaged.
    """
    try:
        content = json.loads(document)
    except RecursionError as error:
        raise ValueError(f"it is lists in lists without end: {error}") from error
    if not isinstance(content, dict) or SEAL not in content:
        raise ValueError(f"it is no JSON object with a {SEAL}")
    seal = content.pop(SEAL)
    if seal != [_digest(content)]:
        raise ValueError(f"its content does not match its {SEAL}")
    return content


def _digest(content: Mapping[str, object]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in json.JSONEncoder(sort_keys=True, allow_nan=False).iterencode(content):  # an index of a million images is long
        digest.update(part.encode())
    return digest.hexdigest()
