"""A clock that never steps: what every deadline, pause and heartbeat of coord goes by.

- `timers`: the clock, which stands in for a reactor;
- `descriptors`: what wakes the reactor for it: a timer of the kernel's, or a thread where there is none.
"""

from coord.clock.timers import SteadyClock, forget_inherited, steady

__all__ = ["SteadyClock", "forget_inherited", "steady"]
