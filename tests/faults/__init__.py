"""Faults on real processes: nodes under load, servers and networks that break, and a judgement of what was recorded."""
