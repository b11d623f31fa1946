"""One module a peer: how its users would own, count and notice who died.

Each is run by ``locks.py``, in several processes at once. The keys are one for each contender of the process; what they
contend for is the name before the last dot. ``lock`` takes and gives back a lock, again and again, ``count`` adds one
to a counter; both say when. ``own`` makes what ends with its process, and ``notice`` says when that has ended.
"""
