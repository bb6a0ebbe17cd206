"""The commands of the documents, and following them in a scratch project.

`tests/pipeline/test_documents.py` sees to it that none is left out.
"""

import re
import textwrap
from collections.abc import Mapping

from tests.conftest import ROOT, Project

DOCUMENTS = ("README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^ *```(bash|console)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def commands_of(document: str) -> list[str]:
    """The commands of a document in their order: lines of ``bash`` blocks, lines behind ``$`` of ``console`` blocks.

    A block that begins with ``#!`` is one command. Comments are left out, lines that end in a backslash are joined.
    """
    found: list[str] = []
    for kind, indented in BLOCK.findall((ROOT / document).read_text(encoding="utf-8")):
        block = textwrap.dedent(indented)
        if block.startswith("#!"):
            found.append(block)
            continue
        lines = re.sub(r"\s*\\\n\s*", " ", block).splitlines()
        lines = [line.removeprefix("$ ") for line in lines if kind == "bash" or line.startswith("$ ")]
        found += [command for line in lines if (command := re.sub(r"(^|\s+)#.*", "", line))]
    return found


def meant(document: str, beginning: str) -> list[str]:
    """The commands of a document that are, or else that begin like this. Raises ValueError if there is none."""
    commands = dict.fromkeys(commands_of(document))
    found = [beginning] if beginning in commands else [command for command in commands if command.startswith(beginning)]
    if not found:
        raise ValueError(f"expected the beginning of a command of {document}, got {beginning!r}")
    return found


def follow(project: Project, document: str, beginning: str, places: Mapping[str, str] | None = None) -> str:
    """Run the commands of a document that are `meant` in the project and return what they print.

    ``places``: what stands in them for files and folders of the reader, and what to put there.
    """
    printed = []
    for command in meant(document, beginning):
        for word, own in (places or {}).items():
            command = command.replace(word, own)
        # The program that is installed is not that of the copy.
        printed.append(project.run("bash", "-c", re.sub(r"^weakclip ", "python -m stages.cli ", command)).stdout)
    return "".join(printed)
