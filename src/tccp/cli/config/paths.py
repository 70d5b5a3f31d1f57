"""Whether the files and folders that a configuration names are there, for whom they are meant and for nobody else."""

import grp
import os
import pwd
import stat
from pathlib import Path

from tccp.cli.config.finding import Report
from tccp.config.files import FOLDER
from tccp.config.places import Place

READ, ENTER = 4, 1
AS_ROOT = "Run `tccp config check` as root."


def look_at_file(report: Report, place: Place, path: Path, *, user: str, secret: bool = False) -> bool:
    """Note what keeps *user* (a daemon's; it need not be there yet) from reading *path*; whether we can read it.

    Args:
        secret: Nobody but its owner and its group may read it.
    """
    try:
        status = path.stat()
    except PermissionError:
        report.warn(place, f"{path}: closed to this user", AS_ROOT)
        return False
    except OSError as problem:
        report.fail(place, f"{path}: {problem.strerror}", "Make it, or correct the path.")
        return False
    if not stat.S_ISREG(status.st_mode):
        report.fail(place, f"{path} is not a file", "Name a file.")
        return False
    _look_at_rights(report, place, path, user)
    if secret and status.st_mode & stat.S_IRWXO:
        report.warn(place, f"{path} is a secret that anybody here may read", f"chmod o= {path}")
    if os.access(path, os.R_OK):
        return True
    report.warn(place, f"{path}: closed to this user", AS_ROOT)
    return False


def look_at_folder(report: Report, place: Place, path: Path, *, user: str) -> bool:
    """Note what keeps *user* from reading the folder *path*; whether we can."""
    try:
        folder = stat.S_ISDIR(path.stat().st_mode)
    except PermissionError:
        report.warn(place, f"{path}: closed to this user", AS_ROOT)
        return False
    except OSError as problem:
        report.fail(place, f"{path}: {problem.strerror}", "Make the folder, or correct the path.")
        return False
    if not folder:
        report.fail(place, f"{path} is not a folder", "Name a folder.")
        return False
    _look_at_rights(report, place, path, user)
    if os.access(path, os.R_OK | os.X_OK):
        return True
    report.warn(place, f"{path}: closed to this user", AS_ROOT)
    return False


def look_at_state(report: Report, place: Place, path: Path, *, user: str) -> None:
    """Note when a folder for a daemon's state is another's, or open to others. systemd makes it if it is missing."""
    try:
        status = path.stat()
    except PermissionError:
        report.warn(place, f"{path}: closed to this user", AS_ROOT)
        return
    except FileNotFoundError:
        return
    except OSError as problem:
        report.fail(place, f"{path}: {problem.strerror}", "Correct the path.")
        return
    owner = _user(user)
    if owner is not None and status.st_uid not in {owner.pw_uid, os.geteuid() or owner.pw_uid}:
        report.fail(place, f"{path} does not belong to {user}", f"chown -R {user}: {path}")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        report.warn(place, f"{path} is open to others than its owner", f"chmod 700 {path}")


def look_at_config_file(report: Report, path: Path, *, user: str) -> None:
    """Note when the configuration file itself is closed to its daemon, or open for others to write.

    A file elsewhere is a draft: the daemon need not read it.
    """
    if path.parent == FOLDER:
        _look_at_rights(report, (), path, user)
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        report.warn((), f"{path} can be changed by others than its owner", f"chmod go-w {path}")


def _look_at_rights(report: Report, place: Place, path: Path, user: str) -> None:
    """Go down to *path* as *user* would; access lists are not looked at, they only give more."""
    person = _user(user)
    if person is None or person.pw_uid == 0:
        return
    groups = {person.pw_gid, *(each.gr_gid for each in grp.getgrall() if user in each.gr_mem)}
    for folder in reversed(path.resolve().parents):
        if not _may(folder.stat(), person.pw_uid, groups, ENTER):
            report.fail(place, f"{user} may not enter {folder}", f"chmod o+x {folder}, or name a file elsewhere")
            return
    wanted = READ | ENTER if path.is_dir() else READ
    if not _may(path.stat(), person.pw_uid, groups, wanted):
        report.fail(place, f"{user} may not read {path}", f"chgrp {user} {path}; chmod g+r {path}")


def _may(status: os.stat_result, uid: int, groups: set[int], wanted: int) -> bool:
    shift = 6 if status.st_uid == uid else 3 if status.st_gid in groups else 0
    return (status.st_mode >> shift) & wanted == wanted


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
