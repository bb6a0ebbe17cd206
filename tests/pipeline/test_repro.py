"""The real pipeline under DVC, on a very small mini world: what runs, what is skipped, what comes from the cache.

The tests share one project and build on each other, in their order.
"""

import json
import re
import shutil

import pytest

from tests import watched_ranks
from tests.conftest import Project
from tests.documents import follow
from tests.pipeline.test_dvc_yaml import STAGES

ORDER = list(STAGES)


def ran(output: str) -> list[str]:
    """Return the stages that DVC ran."""
    return re.findall(r"^Running stage '(\w+)':", output, re.MULTILINE)


def restored(output: str) -> list[str]:
    """Return the stages whose outputs DVC took from its run cache."""
    return re.findall(r"^Stage '(\w+)' is cached - skipping run", output, re.MULTILINE)


def metrics(project: Project, stage: str) -> dict[str, dict[str, float]]:
    """Return the figures of a stage."""
    found: dict[str, dict[str, float]] = json.loads((project.folder / "data" / "results" / stage / "metrics.json").read_text())
    return found


def test_first_run_leaves_every_figure_the_report_and_a_clean_checkout(
    first_run: tuple[Project, str], reproduced: Project
) -> None:
    assert ran(first_run[1]) == ORDER
    figures = {name: block for stage in ORDER for name, block in metrics(reproduced, stage).items()}
    assert {"seed", "pseudo", "refined", "val"} <= set(figures)
    assert all(0 <= figures[name]["miou"] <= 100 for name in ("seed", "pseudo", "refined", "val"))
    assert (reproduced.folder / "data" / "results" / "evaluate" / "report" / "index.html").is_file()
    assert reproduced.run("git", "status", "--porcelain").stdout == ""


def test_second_run_skips_everything(reproduced: Project) -> None:
    output = reproduced.dvc("repro")
    assert ran(output) == []
    assert "Data and pipelines are up to date." in output


def test_a_launcher_makes_two_processes_of_a_stage_and_the_same_bytes(
    reproduced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = shutil.copyfile(watched_ranks.__file__, reproduced.folder / "watch.py")
    # Two of them; the rest has each note what it does.
    monkeypatch.setenv("WEAKCLIP_LAUNCH", "torchrun --standalone --nproc-per-node=2 -m watch")
    assert ran(reproduced.dvc("repro", "--force", "-s", "refine_masks")) == ["refine_masks"]
    own, other = (watched_ranks.share(reproduced.folder, rank, "decoded", "images") for rank in range(2))
    assert (len(own), len(other), len(own | other)) == (6, 6, 12)
    watch.unlink()
    shutil.rmtree(reproduced.folder / watched_ranks.NOTES)
    assert reproduced.run("git", "status", "--porcelain").stdout == ""  # dvc.lock has the hashes of all masks


def test_plots_and_metrics_are_readable_for_dvc(reproduced: Project) -> None:
    shown = json.loads(reproduced.dvc("metrics", "show", "--json"))
    assert all("error" not in value for value in shown[""]["data"].values())
    follow(reproduced, "README.md", "dvc plots show")
    assert "Class IoU" in (reproduced.folder / "dvc_plots" / "index.html").read_text()
    assert reproduced.run("git", "status", "--porcelain").stdout == ""


def test_learning_rate_reruns_the_training_and_what_follows(reproduced: Project) -> None:
    output = follow(reproduced, "README.md", "dvc exp run -S lr=3e-4")
    assert ran(output)[0] == "train_weakclip"
    assert set(ran(output)) <= set(ORDER[ORDER.index("train_weakclip") :])
    assert "0.0003" in follow(reproduced, "README.md", "dvc exp show --only-changed")
    (name,) = reproduced.dvc("exp", "list", "--name-only").split()
    follow(reproduced, "README.md", "dvc plots diff main my-experiment", {"my-experiment": name})
    page = (reproduced.folder / "dvc_plots" / "index.html").read_text()
    assert "Losses by step" in page and page.count("<img") >= 2


def test_going_back_takes_all_but_the_evaluation_from_the_run_cache(reproduced: Project) -> None:
    reproduced.run("git", "checkout", "--quiet", "--", "params.yaml")
    output = reproduced.dvc("repro")
    assert "train_weakclip" in restored(output)
    assert set(ran(output)) <= {"evaluate"}


def test_crf_reruns_the_refinement_and_what_follows(reproduced: Project) -> None:
    output = follow(reproduced, "README.md", "dvc exp run -S crf.bilateral_sxy=10")
    assert ran(output)[0] == "refine_masks"
    assert set(ran(output)) <= {"refine_masks", "retrain_deeplab", "evaluate"}


def test_parts_of_the_pipeline_can_be_asked_for(reproduced: Project) -> None:
    reproduced.set({"crf.gate": 0.5})
    alone = follow(reproduced, "README.md", "dvc repro -s refine_masks")
    assert ran(alone) == ["refine_masks"]
    assert ran(follow(reproduced, "README.md", "dvc repro refine_masks")) == []
    after = follow(reproduced, "README.md", "dvc repro --downstream train_weakclip")
    assert set(ran(after)) | set(restored(after)) <= {"retrain_deeplab", "evaluate"}


def test_wrong_value_stops_with_two_lines(reproduced: Project) -> None:
    reproduced.set({"crf.bilateral_sxy": "wide"})
    result = reproduced.run("python", "-m", "dvc", "repro", "refine_masks", check=False)
    assert result.returncode != 0
    assert "error: params.yaml: crf.bilateral_sxy is 'wide'" in result.stderr
    assert "Traceback" not in result.stderr
    reproduced.set({"crf.bilateral_sxy": 10})
