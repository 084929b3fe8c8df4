"""An E2B-compatible sandbox server: the unmodified E2B SDK runs against it, with real kernels and no account.

control.py    the control plane's routes          wire.py       its JSON shapes
calls.py      what all its calls have in common
gateway.py    traffic to the ports of sandboxes   fleet.py      all sandboxes: create, list, find, end
sandbox.py    one sandbox's life and deadline     cell.py       its processes and folders
tunnel.py     connections, passed on by byte      head.py       the head of a request
pool.py       cells that wait warm                isolation.py  how a cell's processes are started
limits.py     what a cell may use                 bubblewrap.py what it can see
cgroups.py    limits for a whole cell             processes.py  stop, continue and measure a process tree
runtime.py    the Python in sandboxes             folder.py     where they are on disk
faults.py     failures on demand, for tests       app.py        all of it together
agent/        what runs inside a sandbox and answers for it
"""
