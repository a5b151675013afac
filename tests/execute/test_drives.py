"""Network drives, from made-up tables of what is mounted."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.execute import drives

TABLE = [
    ("/", "ext4", "rw"),
    ("/home", "nfs4", "rw,relatime"),
    ("/home/me/scratch", "xfs", "rw"),
    ("/mnt/c", "9p", "rw"),
    ("/media/stick", "fuseblk", "rw"),
    ("/media/far", "fuse.sshfs", "rw"),
    ("/secret", "fuse.gocryptfs", "rw"),
    ("/work", "lustre", "rw,flock"),
    ("/work2", "lustre", "rw,localflock"),
    ("/over", "ext4", "rw"),
    ("/over", "cifs", "rw"),
]


@pytest.fixture
def mounted(monkeypatch):
    partitions = [
        SimpleNamespace(device="any", mountpoint=place, fstype=kind, opts=options)
        for place, kind, options in TABLE
    ]
    monkeypatch.setattr(drives.psutil, "disk_partitions", lambda all: partitions)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/var/mlflow.db", ""),
        ("/home/me/runs/store/mlflow.db", "nfs4"),
        ("/home/me/scratch/mlflow.db", ""),
        ("/homes/mlflow.db", ""),
        ("/mnt/c/Users/me/mlflow.db", "9p"),
        ("/media/stick/mlflow.db", ""),
        ("/media/far/mlflow.db", "fuse.sshfs"),
        ("/secret/mlflow.db", ""),
        ("/work/mlflow.db", ""),
        ("/work2/mlflow.db", "lustre"),
        ("/over/mlflow.db", "cifs"),
    ],
)
def test_the_innermost_drive_counts(mounted, file, kind):
    assert drives.network_drive(Path(file)) == kind


def test_the_remedy_is_told_of_sqlite_alone(mounted):
    told = drives.trouble_of_sqlite("sqlite:////home/me/a b.db")
    assert "(nfs4)" in told
    assert "Use --tracking-uri" in told
    assert drives.trouble_of_sqlite("sqlite:////var/a.db") == ""
    assert drives.trouble_of_sqlite("http://127.0.0.1:5000") == ""


def test_where_the_system_does_not_tell_nothing_is_said(monkeypatch):
    def refused(all):
        raise PermissionError

    monkeypatch.setattr(drives.psutil, "disk_partitions", refused)
    assert drives.network_drive(Path("/home/me/mlflow.db")) == ""
