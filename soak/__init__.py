"""The service under random faults for half an hour, and what it must never do meanwhile: `python -m soak`.

truth.py     what one chat was told, and what contradicts it
chat.py      one chat's life: runs, files, closing, restarting, idling
asking.py    one run, from the request to its result
program.py   the code that a run executes, and what its output says
service.py   calls of the API, answered or cut off
mischief.py  what goes wrong: sandboxes, the control plane, the API's own process
census.py    the sandboxes that there are, counted against the rows
tally.py     figures, violations and the report
"""
