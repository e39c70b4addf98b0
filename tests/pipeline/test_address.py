"""Which addresses a shared folder may have, and that none of them carries a credential."""

from __future__ import annotations

import pytest

from flows.errors import Refusal
from flows.settings import load_config
from pipeline.files.address import check_address


@pytest.mark.parametrize(
    "address",
    [
        "", "/mnt/shared/runs", "file:///mnt/shared", "s3://bucket/runs", "gs://bucket",
        "az://container/runs", "abfs://box@account.dfs.core.windows.net/runs", "memory://runs",
    ],
)  # fmt: skip
def test_a_folder_or_a_url_of_a_known_kind_is_an_address(address: str) -> None:
    assert check_address(address) == address


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("runs", "absolute"),
        ("file://runs", "absolute"),
        ("~/runs", "absolute"),
        ("http://host/runs", "scheme"),
        ("://runs", "scheme"),
        ("simplecache::s3://bucket", "one URL"),
        ("s3://", "bucket"),
        ("s3://bucket/../other", r"without '\.\.'"),
        ("/mnt/../etc", r"without '\.\.'"),
        ("s3://bucket/\n", "control"),
    ],
)
def test_any_other_address_is_refused_with_the_reason(address: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_address(address)


@pytest.mark.parametrize(
    "address",
    ["s3://key:canary@bucket/runs", "az://box/runs?sig=canary", "abfs://me:canary@box/runs"],
)
def test_a_credential_in_a_setting_is_refused_before_it_is_stored_and_never_told(
    address: str,
) -> None:
    with pytest.raises(Refusal, match="credentials in the environment") as refused:
        load_config(None, [f"checkpoint.to={address}"])
    assert "canary" not in str(refused.value)
    with pytest.raises(Refusal) as refused:
        load_config(None, [f"work.folder={address}"])
    assert "canary" not in str(refused.value)
