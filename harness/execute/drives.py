"""On what kind of drive a file lies: SQLite needs locks that hold, as on few network drives."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from harness.work.options import database_file

# As Linux and macOS name them, without "fuse."; by 9p WSL shows the drives of Windows, and by drive
# Colab those of Google.
OVER_A_NETWORK = {
    "9p", "afpfs", "afs", "beegfs", "blobfuse", "blobfuse2", "ceph", "cifs", "davfs", "drive",
    "gcsfuse", "glusterfs", "goofys", "grpcfuse", "juicefs", "lustre", "nfs", "nfs4", "panfs",
    "rclone", "s3fs", "smb2", "smb3", "smbfs", "sshfs", "webdav",
}  # fmt: skip


def network_drive(file: Path) -> str:
    """The kind of network drive that a file is on, or will be: `nfs4`; empty where on none, or
    where the system does not tell."""
    place = file.resolve()
    if place.drive.startswith("\\\\"):  # \\server\folder, which Windows lists nowhere
        return "a shared folder"
    with suppress(OSError):
        around = [one for one in psutil.disk_partitions(all=True)
                  if place.is_relative_to(one.mountpoint)]  # fmt: skip
        # The innermost, and of several that were mounted over each other the last.
        for at in sorted(around, key=lambda one: len(one.mountpoint))[-1:]:
            options = at.opts.split(",")
            if at.fstype == "lustre" and "flock" in options:  # whose locks hold on all machines
                return ""
            is_named = at.fstype.removeprefix("fuse.") in OVER_A_NETWORK
            if is_named or "remote" in options:  # as Windows says
                return at.fstype
    return ""


def trouble_of_sqlite(uri: str) -> str:
    """What is wrong with the place of a SQLite database, by its tracking URI, and what to do; else
    empty."""
    if not (file := database_file(uri)) or not (kind := network_drive(file)):
        return ""
    return (
        f"the database {file} is on a network drive ({kind}), whose file locks may not hold: two "
        "programs at once can damage it, or wait for ever. Use --tracking-uri "
        "sqlite:////FILE/ON/A/LOCAL/DISK or that of a server."
    )
