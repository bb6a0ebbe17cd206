"""The algorithm and the numbers that sharpen masks and targets, from the parameters."""

from weakclip.crf import CrfKernel
from weakclip.par import ParKernel
from weakclip.params_schema import CrfParams, WeakClipParams
from weakclip.sharpening import Kernel


def mask_kernel(crf: CrfParams) -> Kernel:
    """Of refined masks."""
    if crf.algorithm == "par":
        return ParKernel(dilations=crf.par_dilations, iterations=crf.par_iterations)
    return CrfKernel(**crf.model_dump(include=set(CrfKernel.__dataclass_fields__)))


def boundary_kernel(weakclip: WeakClipParams) -> Kernel:
    """Of the targets of the boundary loss."""
    if weakclip.boundary_algorithm == "par":
        return ParKernel(dilations=weakclip.boundary_par_dilations, iterations=weakclip.boundary_par_iterations)
    return CrfKernel(**weakclip.boundary_crf.model_dump())
