"""A tiny ensemble: what members share, what differs, what a second run keeps."""

import itertools
import shutil

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from plaudit import checkpoint, ensemble, joint_file
from plaudit.checkpoint import CheckpointError
from training.ensemble import run


def test_members_share_base_head_and_template(trained_members):
    manifests = [checkpoint.read(directory)[0] for directory in trained_members]
    assert len({m.base.digest for m in manifests}) == 1
    assert len({m.head_init for m in manifests}) == 1
    assert len({m.digests.template for m in manifests}) == 1
    assert [m.training["settings"]["seed"] for m in manifests] == [1, 2, 3]


def test_members_differ_in_their_weights(trained_members):
    found = [load_file(directory / "model.safetensors") for directory in trained_members]
    for a, b in itertools.combinations(found, 2):
        assert not torch.equal(a["score.weight"], b["score.weight"])


def test_the_file_names_the_members(ensemble_plan, trained_members):
    path = ensemble_plan.out / "ensemble.yaml"
    entry = joint_file.read(path)
    assert [(path.parent / name).resolve() for name in entry.members] == [
        directory.resolve() for directory in trained_members
    ]
    assert entry.aggregate == "mean"


def test_a_second_run_keeps_complete_members_and_finishes_the_others(ensemble_plan, tmp_path):
    out = shutil.copytree(ensemble_plan.out, tmp_path / "again")
    plan = ensemble_plan.model_copy(update={"out": out})
    expected = load_file(out / "member-1" / "model.safetensors")
    (out / "member-1" / "reward.json").unlink()
    (out / "ensemble.yaml").unlink()
    kept = [(out / name / "reward.json").stat().st_mtime_ns for name in ("member-0", "member-2")]
    run(plan)
    assert kept == [
        (out / name / "reward.json").stat().st_mtime_ns for name in ("member-0", "member-2")
    ]
    assert checkpoint.is_complete(out / "member-1")
    found = load_file(out / "member-1" / "model.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (out / "ensemble.yaml").is_file()


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("members: []\n", "members"),
        ("members: [a]\naggregate: best\n", "aggregate"),
        ("members: [a]\ncoefficient: -1\n", "coefficient"),
        ("members: [a]\nweights: [1]\n", "weights"),
        ("members: [\n", "e.yaml"),
        ("members: [a, b]\nmin_members: 3\n", "min_members is 3, of 2 members; it is 1 to 2"),
        ("members: [a, b]\nmin_members: 0\n", "min_members is 0, of 2 members; it is 1 to 2"),
        ("members: [a, b, a]\n", "e.yaml: members: a is named twice, and would count twice"),
        ("members: [a, b, ./c/../b]\n", "./c/../b is named twice, as b too"),
        ("members: [a, b]\naggregate: wco\ncentre: c\n", "wco would not read the centre"),
    ],
)
def test_a_file_that_is_no_ensemble_is_refused_by_field(tmp_path, text, field):
    path = tmp_path / "e.yaml"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=field):
        joint_file.read(path)


def test_a_written_ensemble_is_read(tmp_path):
    entry = msgspec.structs.replace(
        ensemble.EnsembleFile(["a", "b"]), aggregate="uwo", coefficient=0.0
    )
    for one in (entry, msgspec.structs.replace(entry, min_members=1, centre="../warm")):
        ensemble.write(tmp_path / "e.yaml", one)
        assert joint_file.read(tmp_path / "e.yaml") == one
