"""The one exception for mistakes that the user can mend, and what is no mistake in a file."""

import errno
import unicodedata

OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)

BREAKING = ("Cc", "Zl", "Zp")  # categories of control characters, tabs among them, and of separators of lines


def one_line(text: str) -> str:
    r"""The text with control characters and line ends as Python spells them (``\n``): names of files may hold them."""
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in BREAKING else character
        for character in text
    )


def of_the_machine(error: Exception) -> bool:
    """Whether an error says nothing of the file that was to be read: what is refused now may be read later.

    A MemoryError is not among them: files of others may ask for any amount.
    """
    return isinstance(error, OSError) and error.errno in OF_THE_MACHINE


class WeakClipError(Exception):
    """What is wrong and where, and what to do about it; a stage prints it as an `error:` and a `hint:` line.

    Both texts are one line each, without a full stop at the end.
    """

    def __init__(self, problem: str, hint: str) -> None:
        # Both go to Exception.args: that is what a worker process pickles and the parent rebuilds the error from.
        super().__init__(problem, hint)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return self.problem
