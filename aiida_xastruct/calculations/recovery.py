"""What AiiDA loses of a job when its daemon is killed at the wrong moment."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import CalcJob


class RecoveringCalcJob(CalcJob):
    """A CalcJob that has its `remote_folder` whatever happened.

    AiiDA 2.9 notes that a job is uploaded before it stores the output `remote_folder`. A worker that is killed between the two leaves a
    process that goes on without it and ends well, but that every work chain around it gives up for want of a required output.
    """

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        """Make up for the lost output, then parse."""
        folder = self.node.get_remote_workdir()
        if folder and "remote_folder" not in self.outputs:
            stored = self.node.base.links.get_outgoing(link_label_filter="remote_folder").first()
            self.out("remote_folder", stored.node if stored else orm.RemoteData(computer=self.node.computer, remote_path=folder))
        return super().parse(*args, **kwargs)
