"""Jobs: commands that are watched, stopped and told about."""

from __future__ import annotations

import asyncio
import os

import pytest
from aiida.manage import get_manager
from aiida.orm import ProcessNode, QueryBuilder

from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.explore.jobs import MOST_RUNNING, Jobs

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")


def jobs(read_only: bool = False) -> Jobs:
    """Jobs in the profile of the tests."""
    profile = get_manager().get_profile()
    assert profile is not None
    return Jobs(profile.name, read_only)


def test_a_command_gives_its_json_or_its_sentence() -> None:
    async def both() -> None:
        own = jobs()
        assert await (await own.start("a list", ["family", "list"])).result() == []
        with pytest.raises(XastructError, match=r"^a prediction failed: nothing.cif is neither a file nor a stored structure"):
            await (await own.start("a prediction", ["predict", "nothing.cif", "--absorber", "Fe"])).result()
        assert [job.state for job in own.all] == ["done", "failed"]

    asyncio.run(both())


def test_a_job_that_is_stopped_leaves_no_process() -> None:
    async def stopped() -> None:
        own = jobs()
        job = await own.start("FEFF of halite", ["predict", "amcsd:641", "--absorber", "Cl", "--kind", "XANES", "--fallback", "always"])
        assert job._process is not None
        for _ in range(600):
            if any("FeffCalculation" in line for line in job.lines):
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail("FEFF was not begun")
        await own.stop(job)
        assert job.state == "stopped"
        with pytest.raises(XastructError, match="was stopped"):
            await job.result()
        with pytest.raises(ProcessLookupError):
            os.killpg(job._process.pid, 0)

    asyncio.run(stopped())
    left = {node.process_label: node.process_state for node in QueryBuilder().append(ProcessNode).all(flat=True) if not node.is_terminated}
    assert not left


def test_read_only_starts_nothing_and_there_is_an_end_to_what_is_started() -> None:
    async def refused() -> None:
        with pytest.raises(XastructError, match="read only"):
            await jobs(read_only=True).start("a list", ["family", "list"])
        own = jobs()
        for _ in range(MOST_RUNNING):
            await own.start("a list", ["family", "list"])
        with pytest.raises(XastructError, match=f"{MOST_RUNNING} jobs run already"):
            await own.start("a list", ["family", "list"])
        await own.close()
        assert {job.state for job in own.all} <= {"stopped", "done"}

    asyncio.run(refused())
