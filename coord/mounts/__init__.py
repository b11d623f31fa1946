"""The mount agent: tells the cluster what is mounted on this host.

- `mountinfo`: the kernel's table as text, and what of it is visible;
- `selection`: what is left out;
- `table`: the table as a thing that says when it changed;
- `announcements`: what the cluster should hear, and the steps that lead there; pure;
- `announcer`: makes these calls, and makes them again where they fail;
- `agent`: puts the four together.
"""

from coord.mounts.agent import MountAgent
from coord.mounts.selection import KERNEL_FILE_SYSTEMS, PLACEHOLDERS

__all__ = ["KERNEL_FILE_SYSTEMS", "PLACEHOLDERS", "MountAgent"]
