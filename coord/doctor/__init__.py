"""Find what could lose events on a server: for the shell and for programs.

`exam` queries a server and tries what a node does; `rules`, which is pure, judges the answers. `cluster_exam` and
`cluster` do the same for the servers of a cluster.
"""

from coord.doctor.cluster import judge_cluster
from coord.doctor.cluster_exam import Askers, cluster_facts_of, examine_shards, scratch_maps
from coord.doctor.exam import Exam, facts_of
from coord.doctor.rules import Facts, Finding, Level, judge

__all__ = [
    "Askers",
    "Exam",
    "Facts",
    "Finding",
    "Level",
    "cluster_facts_of",
    "examine_shards",
    "facts_of",
    "judge",
    "judge_cluster",
    "scratch_maps",
]
