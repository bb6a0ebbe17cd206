"""The one exception for mistakes that the user can mend."""


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
