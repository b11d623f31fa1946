"""What of a server could lose events: asked, tried and judged, for the shell and for programs alike.

`exam` asks a server and tries what a node does there; `rules` judges what it told, and is pure.
"""

from coord.doctor.exam import Exam, facts_of
from coord.doctor.rules import Facts, Finding, Level, judge

__all__ = ["Exam", "Facts", "Finding", "Level", "facts_of", "judge"]
