"""Guards against an artifact that changes under its reference, and against a repeated
step that overwrites what an earlier one stored."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path

import pytest

from services.common.artifacts import ArtifactRef, ArtifactStore
from services.common.errors import FailedPrecondition, InvalidArgument, Unavailable


async def test_what_was_put_comes_back(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    ref = await store.put("default/e1/gather", b"\x00bytes")
    assert await store.get(ref) == b"\x00bytes"
    assert await store.find("default/e1/gather") == ref


async def test_the_first_content_stays(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    first = await store.put("e/step", b"first")
    assert await store.put("e/step", b"second") == first
    assert await store.get(first) == b"first"


async def test_concurrent_writers_agree_on_one_content(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    refs = await asyncio.gather(*(store.put("e/step", b"same") for _ in range(8)))
    assert len(set(refs)) == 1
    assert len(list((tmp_path / "e").iterdir())) == 2


async def test_racing_writers_of_different_content_each_read_back_their_own(
    tmp_path: Path,
) -> None:
    store = ArtifactStore(str(tmp_path))
    refs = await asyncio.gather(*(store.put("e/step", bytes([n])) for n in range(8)))
    assert [await store.get(ref) for ref in refs] == [
        next(bytes([n]) for n in range(8) if sha256(bytes([n])).hexdigest() == ref.sha256)
        for ref in refs
    ]


async def test_a_changed_artifact_is_refused(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    ref = await store.put("e/step", b"good")
    (tmp_path / f"e/step.{ref.sha256[:16]}").write_bytes(b"evil")
    with pytest.raises(FailedPrecondition) as caught:
        await store.get(ref)
    assert caught.value.reason == "ARTIFACT_CORRUPT"


async def test_a_missing_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition):
        await ArtifactStore(str(tmp_path)).get(ArtifactRef(path="e/x", sha256="0" * 64, size=1))


async def test_a_write_without_its_pointer_counts_as_never_written(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    await store.put("e/step", b"half")
    (tmp_path / "e/step").unlink()
    ref = await store.put("e/step", b"whole")
    assert await store.get(ref) == b"whole"


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../up", "a/../../b", "a//b", "a/."])
async def test_a_path_outside_the_store_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidArgument):
        await ArtifactStore(str(tmp_path)).put(path, b"")


async def test_a_store_that_refuses_writes_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(b"a file where a folder should be")
    with pytest.raises(Unavailable):
        await ArtifactStore(str(tmp_path)).put("e/step", b"x")


async def test_a_prefix_is_deleted_whole_and_twice_without_harm(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    await store.put("default/e1/a", b"1")
    kept = await store.put("default/e2/a", b"2")
    await store.delete_prefix("default/e1")
    await store.delete_prefix("default/e1")
    assert await store.find("default/e1/a") is None
    assert await store.get(kept) == b"2"


async def test_another_filesystem_works_the_same() -> None:
    store = ArtifactStore("memory://saexplain-test")
    ref = await store.put("e/step", b"data")
    assert await store.get(ref) == b"data"
