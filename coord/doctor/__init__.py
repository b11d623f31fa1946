"""Find what could lose events on a server: for the shell and for programs.

`exam` queries a server and tries what a node does; `rules`, which is pure, judges the answers.
"""

from coord.doctor.exam import Exam, facts_of
from coord.doctor.rules import Facts, Finding, Level, judge

__all__ = ["Exam", "Facts", "Finding", "Level", "facts_of", "judge"]
