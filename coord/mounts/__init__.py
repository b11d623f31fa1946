"""The mount agent: announces to the cluster what is mounted on this host.

- `mountinfo`: parses the kernel's mount table, and finds the visible mounts in it;
- `selection`: which mounts are announced;
- `file`: the open file of a mount table, and its process;
- `table`: follows a mount table and reports changes;
- `announcements`: what is announced, and the difference to what is held; pure;
- `announcer`: holds the keys, and retries calls that fail;
- `names`: which host names make bad node names;
- `paths`: how a mount table writes the path of a mount point;
- `agent`: composes all of these.
"""

from coord.mounts.agent import MountAgent
from coord.mounts.selection import KERNEL_FILE_SYSTEMS, PLACEHOLDERS, Selection

__all__ = ["KERNEL_FILE_SYSTEMS", "PLACEHOLDERS", "MountAgent", "Selection"]
