"""Addresses of folders that every machine of a run sees, checked before anything keeps them.

An address is stored with the run's settings and told in messages, so it may hold no credential:
the libraries behind it find those in the environment or in their own files.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

SCHEMES = ("file", "s3", "gs", "az", "abfs", "memory")


def check_address(address: str) -> str:
    """The address as it came: an absolute folder, or a URL of SCHEMES; "" means none.

    Raises ValueError for any other. Its message tells the scheme at most, never the rest.
    """
    if not address:
        return address
    if not address.isprintable() or "::" in address:
        raise ValueError("an address is one folder or one URL, without control characters or '::'")
    scheme, given, rest = address.rpartition("://")
    if given and scheme not in SCHEMES:
        known = ", ".join(SCHEMES)
        raise ValueError(f"the scheme of an address is one of {known}, or it is a plain folder")
    if scheme in ("", "file"):
        if not PurePosixPath(rest).is_absolute():
            raise ValueError("a folder's address is absolute, so that every process finds the same")
    elif not rest.strip("/"):
        raise ValueError(f"{scheme}:// needs the name of a bucket, container or folder behind it")
    elif _may_hold_a_secret(rest):
        raise ValueError(
            f"the {scheme} address holds a user, a key or a query; settings are stored with the "
            "run, so give credentials in the environment or in the library's own files"
        )
    if ".." in rest.split("/"):
        raise ValueError("an address names its folder without '..'")
    return address


def _may_hold_a_secret(rest: str) -> bool:
    user, at, _ = rest.rpartition("@")
    return "?" in rest or "#" in rest or (bool(at) and ":" in user)


Address = Annotated[str, AfterValidator(check_address)]
