"""``coord demo``: three node processes on an embedded server, shown as they go.

- `show`: the command, from the server's start to the last process's end;
- `story`: the scenes, and what must come of each;
- `cast`: the node processes, seen from here; `node`: one of them, seen from inside;
- `look`: the page of ``--web``;
- `stage`: what is printed.
"""
