"""The spool on a real disk: what was acknowledged comes back, whatever is cut, flipped, killed, shared or full."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from store.errors import SpoolRefused, StartRefused
from store.spool import appender as appender_module
from store.spool import folder as folder_module
from store.spool.appender import Spool
from store.spool.folder import SpoolFolder
from store.spool.segment import (
    HEAD_BYTES,
    OVERHEAD,
    Damage,
    SegmentName,
    encode_head,
    encode_record,
    open_segment,
)
from tests.databases import ROOT
from tests.programs import tool

SEGMENT = 64 * 1024
EXAMPLES = int(os.environ.get("TOLLWATCH_TEST_SPOOL_EXAMPLES", "60"))
"""Examples of each property of the file format."""
KILLS = int(os.environ.get("TOLLWATCH_TEST_SPOOL_KILLS", "6"))
"""Processes killed in the middle of appends."""
SALT = bytes(range(16))
WRITER = Path(__file__).parent / "spool_writer.py"


def utc_now():
    return datetime.now(UTC)


def spool_in(path, *, most=64 * SEGMENT, segment=SEGMENT):
    return Spool(SpoolFolder(Path(path), max_bytes=most, lock_seconds=5), segment_bytes=segment, clock=utc_now)


@contextlib.asynccontextmanager
async def opened(path, **options):
    spool = spool_in(path, **options)
    await spool.open()
    try:
        yield spool
    finally:
        await spool.close()


async def drained(spool):
    """Every payload, in order; the spool is empty afterwards. Damage by segment."""
    payloads, damages = [], []
    while (segment := await spool.next_segment()) is not None:
        with open_segment(segment.path) as reader:
            payloads += [record.payload for record in reader]
            damages.append(reader.damage)
        await spool.finish(segment, put_aside=damages[-1] is Damage.CORRUPT)
    return payloads, damages


async def append_until_refused(spool, kept, size):
    while True:
        payload = os.urandom(size)
        await spool.append(payload, 1)
        kept.append(payload)


# The file format.


def segment_file(folder, payloads, *, tail=0):
    """A segment with these records, `tail` zeros behind them; its path, its bytes, where its records begin and end."""
    data = encode_head(SALT, 0)
    bounds = []
    for payload in payloads:
        record = encode_record(payload, len(payload), 1, SALT, len(data))
        bounds.append((len(data), len(data) + len(record)))
        data += record
    path = folder / str(SegmentName(number=1, salt=SALT))
    path.write_bytes(data + bytes(tail))
    return path, data, bounds


def read(path):
    with open_segment(path) as reader:
        return [record.payload for record in reader], reader.damage


payload_lists = st.lists(st.binary(max_size=300), min_size=1, max_size=8)
quick = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=False
)


@quick
@given(payloads=payload_lists, tail=st.integers(0, 5000))
def test_what_was_written_is_read(tmp_path, payloads, tail):
    path, _, bounds = segment_file(tmp_path, payloads, tail=tail)
    with open_segment(path) as reader:
        found = list(reader)
        assert [(one.payload, one.events, one.offset) for one in found] == [
            (payload, len(payload), start) for payload, (start, _) in zip(payloads, bounds, strict=True)
        ]
        assert reader.damage is None
        assert reader.survey() == (sum(map(len, payloads)), 1)


@quick
@given(payloads=payload_lists, where=st.floats(0, 1), zeros=st.booleans())
def test_any_prefix_gives_back_the_records_before_the_cut(tmp_path, payloads, where, zeros):
    path, data, bounds = segment_file(tmp_path, payloads)
    cut = round(where * len(data))
    # A file that was allocated ahead has zeros where the write did not get to.
    path.write_bytes(data[:cut] + bytes(len(data) - cut if zeros else 0))
    found, damage = read(path)
    # With zeros behind it, a cut that took nothing but zeros took nothing.
    missing = [any(data[cut:end]) if zeros else cut < end for _, end in bounds]
    assert found == payloads[: len(payloads) - sum(missing)]
    assert damage in (None, Damage.TORN)


@quick
@given(
    payloads=payload_lists, tail=st.integers(0, 100), where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255)
)
@example(payloads=[b"a", b"b"], tail=0, where=0.0, flip=1)
def test_any_flipped_byte_costs_its_record_and_no_other(tmp_path, payloads, tail, where, flip):
    path, data, bounds = segment_file(tmp_path, payloads, tail=tail)
    spoiled = bytearray(data + bytes(tail))
    at = int(where * len(spoiled))
    spoiled[at] ^= flip
    path.write_bytes(spoiled)
    found, damage = read(path)
    assert found == [p for p, (start, end) in zip(payloads, bounds, strict=True) if not start <= at < end]
    made_at = range(HEAD_BYTES - 8, HEAD_BYTES)  # says nothing about the records
    if at == len(data) - 1 and not spoiled[at]:
        assert damage is Damage.TORN  # the same bytes as those of a write that lacks its last one
    elif at < len(data) and at not in made_at:
        assert damage is Damage.CORRUPT  # kept for a person to look at
    assert (damage is None) == (at in made_at)


@quick
@given(payloads=payload_lists, noise=st.binary(min_size=1, max_size=400), where=st.floats(0, 1))
def test_nothing_is_invented_from_noise(tmp_path, payloads, noise, where):
    """Noise in the middle, or the file's own bytes somewhere else: what comes back was written."""
    path, data, _ = segment_file(tmp_path, payloads)
    at = round(where * len(data))
    for spoiled in (data[:at] + noise + data[at:], data[:at] + noise, data + data[HEAD_BYTES:], noise):
        path.write_bytes(spoiled)
        found, _ = read(path)
        assert [payload for payload in found if payload not in payloads] == []
        assert len(found) <= len(payloads)


def test_a_record_inside_of_a_payload_is_no_record(tmp_path):
    inner = encode_record(b"invented", 1, 1, SALT, HEAD_BYTES)
    path, data, bounds = segment_file(tmp_path, [inner, b"after"])
    spoiled = bytearray(data)
    spoiled[bounds[0][0]] ^= 1  # the outer header: the search for the next record comes across the inner one
    path.write_bytes(spoiled)
    assert read(path) == ([b"after"], Damage.CORRUPT)


def test_a_length_that_lies_is_damage_and_allocates_nothing(tmp_path):
    path, data, bounds = segment_file(tmp_path, [b"one", b"two"])
    spoiled = bytearray(data)
    spoiled[bounds[0][0] + 8 : bounds[0][0] + 12] = b"\xff\xff\xff\xff"
    path.write_bytes(spoiled)
    assert read(path) == ([b"two"], Damage.CORRUPT)


def test_a_page_that_the_disk_lost_is_no_end(tmp_path):
    path, data, bounds = segment_file(tmp_path, [b"x" * 5000, b"y" * 5000, b"z" * 5000])
    path.write_bytes(data[: bounds[1][0]] + bytes(4096) + data[bounds[1][0] + 4096 :])
    assert read(path) == ([b"x" * 5000, b"z" * 5000], Damage.CORRUPT)


# The appender.


async def test_appends_come_back_in_order_across_segments_and_processes(tmp_path):
    batches = [os.urandom(random.randrange(1, 20_000)) for _ in range(40)]
    async with opened(tmp_path) as first:
        for payload in batches[:20]:
            await first.append(payload, 3)
        assert first.events == 60
        assert first.oldest_ms is not None
    async with opened(tmp_path) as second:
        assert second.events == 60
        for payload in batches[20:]:
            await second.append(payload, 3)
        payloads, damages = await drained(second)
        assert payloads == batches
        assert set(damages) == {None}
        assert len(damages) > 5, "several segments"
        assert (second.is_empty, second.events, second.bytes, second.oldest_ms) == (True, 0, 0, None)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".room"]
    assert left == []


async def test_a_batch_larger_than_a_segment_has_its_own(tmp_path):
    async with opened(tmp_path) as spool:
        large = os.urandom(5 * SEGMENT)
        await asyncio.gather(spool.append(b"small", 1), spool.append(large, 1), spool.append(b"after", 1))
        assert (await drained(spool))[0] == [b"small", large, b"after"]


async def test_many_waiting_batches_share_an_fsync(tmp_path, monkeypatch):
    """And none returns before the fsync behind its write."""
    log = []
    real = folder_module.sync_data

    def sync(descriptor):
        time.sleep(0.01)  # a disk of the slower kind, so that batches come together
        real(descriptor)
        log.append("sync")

    monkeypatch.setattr(folder_module, "sync_data", sync)
    async with opened(tmp_path, segment=1024**2) as spool:

        async def one(number):
            await spool.append(b"%d" % number, 1)
            log.append("returned")

        await asyncio.gather(*map(one, range(500)))
        assert log[0] == "sync"
        assert log.count("returned") == 500
        assert log.count("sync") < 50
        assert len((await drained(spool))[0]) == 500


async def test_files_are_for_their_owner_only(tmp_path):
    async with opened(tmp_path / "new") as spool:
        await spool.append(b"x", 1)
        for path in (tmp_path / "new").rglob("*"):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path


async def test_what_waits_in_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(appender_module, "MAX_WAITING_BYTES", 100)
    async with opened(tmp_path) as spool:
        results = await asyncio.gather(*(spool.append(bytes(30), 1) for _ in range(5)), return_exceptions=True)
        assert [isinstance(one, SpoolRefused) and one.reason for one in results] == [False] * 3 + ["busy"] * 2
        assert spool.refused == {"busy": 2}
        await spool.append(bytes(90), 1)


async def test_the_bound_holds_and_what_was_accepted_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(appender_module, "PAUSE_S", 0)
    async with opened(tmp_path, most=4 * SEGMENT) as spool:
        kept = []
        with pytest.raises(SpoolRefused, match="TOLLWATCH_SPOOL_MAX") as refused:
            await append_until_refused(spool, kept, 10_000)
        assert refused.value.reason == "full"
        assert spool.folder.usage().bytes <= 4 * SEGMENT
        assert not (await spool.status()).has_room
        segment = await spool.next_segment()
        with open_segment(segment.path) as reader:
            assert [record.payload for record in reader] == kept[:6]
        await spool.finish(segment, put_aside=False)
        await spool.append(b"room again", 1)
        assert (await drained(spool))[0] == [*kept[6:], b"room again"]


class TestFailingDisk:
    """Write and fsync fail as the kernel makes them fail: only what calls them is ours."""

    @pytest.mark.parametrize("call", ["sync_data", "write_all"])
    async def test_the_segment_is_abandoned_and_never_synced_again(self, tmp_path, monkeypatch, call):
        monkeypatch.setattr(appender_module, "PAUSE_S", 0)
        async with opened(tmp_path) as spool:
            await spool.append(b"before", 1)
            spoiled, touched = spool._active.descriptor, []
            real = getattr(folder_module, call)

            def fail(descriptor, *arguments):
                touched.append(descriptor)
                if descriptor == spoiled and len(touched) == 1:
                    raise OSError(errno.EIO, "Input/output error")
                real(descriptor, *arguments)

            monkeypatch.setattr(folder_module, call, fail)
            with pytest.raises(SpoolRefused, match="Input/output error") as refused:
                await spool.append(b"in it", 1)
            assert refused.value.reason == "disk"
            path = spool._sealed[0].path
            await spool.append(b"after", 1)
            assert spool._active.path != path
            payloads, damages = await drained(spool)
            assert (payloads, damages) == ([b"before", b"after"], [None, None])

    async def test_the_disk_is_left_alone_for_a_while(self, tmp_path, monkeypatch):
        calls = []

        def fail(descriptor):
            calls.append(descriptor)
            raise OSError(errno.EIO, "Input/output error")

        async with opened(tmp_path) as spool:
            monkeypatch.setattr(folder_module, "sync_data", fail)
            for _ in range(5):
                with pytest.raises(SpoolRefused, match="Input/output"):
                    await spool.append(b"x", 1)
            assert len(calls) == 1
            assert (await spool.status()).refusal is not None


async def test_a_process_that_is_gone_is_taken_over_and_one_that_lives_is_not(tmp_path):
    async with opened(tmp_path) as second:
        async with opened(tmp_path) as first:
            await first.append(b"first's", 1)
            await second.adopt()
            assert second.is_empty, "the other lives"
            await second.append(b"second's", 1)
            assert second.folder.usage().bytes == 2 * SEGMENT, "both count towards one bound"
            assert (await drained(second))[0] == [b"second's"]
        await second.adopt()
        assert (await drained(second))[0] == [b"first's"]
        assert list((tmp_path / "lanes").iterdir()) == [second._lane.path]


async def test_corrupt_segments_go_to_the_quarantine_and_hold_up_nothing(tmp_path):
    async with opened(tmp_path) as first:
        for number in range(3):
            await first.append(b"%d" % number * 1000, 1)
        path = first._active.path
    data = bytearray(path.read_bytes())
    data[HEAD_BYTES + OVERHEAD + 1000 + 500] ^= 1
    path.write_bytes(data)
    (path.parent / "00000009-zz.seg").write_bytes(b"no segment at all")
    (path.parent / f"00000010-{'0' * 32}.seg").write_bytes(b"garbage" * 100)
    (path.parent / f"00000011-{'0' * 32}.seg").write_bytes(b"")
    (path.parent / f"00000012-{'0' * 32}.seg.new").write_bytes(b"half an allocation")
    async with opened(tmp_path) as second:
        payloads, damages = await drained(second)
        assert payloads == [b"0" * 1000, b"2" * 1000]
        assert damages == [Damage.CORRUPT, Damage.CORRUPT, None]
        assert len(list((tmp_path / "quarantine").iterdir())) == 2
        status = await second.status()
        assert status.quarantine_bytes == status.folder_bytes - 17 > 0  # 17: the file that is none of ours


# Refusals at the start.


async def test_a_folder_that_cannot_be_made_or_written_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartRefused, match=r"cannot write the spool's folder .*; TOLLWATCH_SPOOL must name a folder"):
        await spool_in(tmp_path / "file" / "below").open()


def test_the_same_for_a_user_without_the_right(tmp_path):
    tmp_path.chmod(0o755)
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from store.spool.folder import SpoolFolder\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "try: SpoolFolder(Path(sys.argv[1]), max_bytes=1, lock_seconds=1).prepare()\n"
        "except Exception as exc: print(type(exc).__name__, exc)\n"
    )
    (tmp_path / "shut").mkdir(mode=0o500)
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "shut"), str(ROOT)], capture_output=True, text=True, check=False
    )
    assert ran.stdout.startswith("StartRefused cannot write the spool's folder"), ran.stdout + ran.stderr
    assert "Permission denied" in ran.stdout


# A full disk, for real.


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk; the limit on a file's size is tested all the same")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_full_disk_refuses_and_loses_nothing(small_disk, monkeypatch):
    monkeypatch.setattr(appender_module, "PAUSE_S", 0)
    kept = []
    async with opened(small_disk, most=1024**3) as spool:
        with pytest.raises(SpoolRefused, match=r"No space left.*nothing was kept, send again later") as refused:
            await append_until_refused(spool, kept, 7_000)
        assert refused.value.reason == "disk"
        assert not (await spool.status()).has_room
        assert (await drained(spool))[0] == kept
        await spool.append(b"room again", 1)
    assert len(kept) > 50


async def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(appender_module, "PAUSE_S", 0)
    async with opened(tmp_path) as spool:
        await spool.append(b"before", 1)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT // 2, hard))
        try:
            for size in (SEGMENT // 2, 100):  # beyond the limit in the active segment; then a new one would be
                with pytest.raises(SpoolRefused, match="File too large"):
                    await spool.append(bytes(size), 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await spool.append(b"after", 1)
        assert await drained(spool) == ([b"before", b"after"], [None, None])


async def test_damage_and_a_start_on_a_full_disk_need_no_space(small_disk):
    async with opened(small_disk) as first:
        await first.append(b"a" * 1000, 1)
        await first.append(b"b" * 1000, 1)
        path = first._active.path
    data = bytearray(path.read_bytes())
    data[HEAD_BYTES + 100] ^= 1
    path.write_bytes(data)
    with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    assert shutil.disk_usage(small_disk).free == 0
    async with opened(small_disk) as second:
        with pytest.raises(SpoolRefused, match="No space left"):
            await second.append(b"c", 1)
        assert await drained(second) == ([b"b" * 1000], [Damage.CORRUPT])
        assert [entry.stat().st_size for entry in os.scandir(small_disk / "quarantine")] == [len(data)]


# Processes that are killed, and that share a folder.


def start_writer(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, str(WRITER), str(folder), *arguments],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )


def acknowledged_by(process):
    """Names of the batches whose append had returned, as told before the process died; the last line may be cut."""
    told = process.stdout.read().split(b"\n")[:-1]
    process.stdout.close()
    process.wait()
    return told


async def test_kill_9_in_the_middle_of_appends_loses_nothing_acknowledged(tmp_path):
    """Two processes share the folder all along; each is killed again and again."""
    expected = []
    for _ in range(max(1, KILLS // 2)):
        writers = [start_writer(tmp_path), start_writer(tmp_path)]
        for writer in writers:
            assert writer.stdout.readline() == b"ready\n"
        await asyncio.sleep(random.uniform(0.02, 0.3))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            expected += acknowledged_by(writer)
    async with opened(tmp_path, most=1024**3) as spool:
        payloads, damages = await drained(spool)
    assert Damage.CORRUPT not in damages
    names = [payload.split(b" ", 1)[0] for payload in payloads]
    assert len(expected) > 50
    assert sorted(set(names)) == sorted(names), "none twice"
    assert set(expected) <= set(names)
    # In order, for each of the writers.
    for writer in {name.partition(b"-")[0] for name in names}:
        numbers = [int(name.partition(b"-")[2]) for name in names if name.startswith(writer + b"-")]
        assert numbers == list(range(len(numbers)))


def test_the_kernel_is_asked_to_sync_before_anyone_is_told(tmp_path):
    """As the kernel sees it: every write into a segment is followed by its fdatasync before the acknowledgement."""
    log = tmp_path / "strace"
    ran = subprocess.run(
        [tool("strace"), "-f", "-y", "-o", str(log), "-e", "trace=pwrite64,fdatasync,fsync,write,rename,mkdir",
         sys.executable, str(WRITER), str(tmp_path / "spool"), "20"],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=True,
    )  # fmt: skip
    told = ran.stdout.split(b"\n")[1:-1]
    assert len(told) == 20
    dirty, synced, named, acknowledged = set(), set(), set(), 0
    for line in log.read_text(errors="replace").splitlines():
        if (found := re.search(r"pwrite64\(\d+<([^>]+\.seg)>.*= \d+$", line)) and "TWSPOOL1" not in line:
            dirty.add(found[1])
        elif found := re.search(r"fdatasync\(\d+<([^>]+)>.*= 0$", line):
            dirty.discard(found[1])
            synced.add(found[1])
        elif found := re.search(r"fsync\(\d+<([^>]+/lanes/[^>/]+)>.*= 0$", line):
            named.add(found[1])  # the folder, so that the new file's name is on the disk as well
        elif re.search(r"write\(1<.*\"[0-9a-f]+-\d+\\n\"", line):
            acknowledged += 1
            assert not dirty, "told before it was synced"
            assert synced
            assert {str(Path(path).parent) for path in synced} <= named
    assert acknowledged == 20
