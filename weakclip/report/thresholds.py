"""The report's thresholds of seeds, where each class has its own, chosen from the values of its CAMs."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape


def threshold_table(block: Mapping[str, object]) -> str:
    """A row for each class: from which score a pixel is the class, and between which it is unsure.

    ``block``: the figures of the seeds; ``thresholds`` in it are by class name ``at``, ``below`` and ``above``, 0..1, as
    `weakclip.cam.seeds.Threshold` has them. Empty where they are not there.
    """
    thresholds = block.get("thresholds")
    if not isinstance(thresholds, Mapping) or not thresholds:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th><td>{of["at"]:.2f}</td>'
        f"<td>{of['at'] - of['below']:.2f} to {of['at'] + of['above']:.2f}</td></tr>\n"
        for name, of in thresholds.items()
    )
    return (
        "<details>\n<summary>Thresholds that were chosen for the seeds</summary>\n"
        "<p>From the values of each class's CAMs alone; no mask was looked at. A pixel is of the class from the threshold on, "
        "and what the network learns from leaves out those that are unsure.</p>\n"
        '<table class="thresholds">\n<thead><tr><th scope="col">class</th><th scope="col">threshold</th>'
        f'<th scope="col">unsure</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</details>\n'
    )
