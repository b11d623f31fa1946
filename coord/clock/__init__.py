"""A clock that never steps, for every deadline, pause and heartbeat of coord.

- `timers`: the clock, which wraps a reactor;
- `descriptors`: what wakes the reactor: a timer of the kernel, or a thread if there is none.
"""

from coord.clock.timers import SteadyClock, forget_inherited, steady

__all__ = ["SteadyClock", "forget_inherited", "steady"]
