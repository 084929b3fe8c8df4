"""Runs code in a sandbox so that no run depends on anybody outside: this package is put there and started.

    call ──POST /runs/{id}──►┌────────┐          ┌─────────────┐      ┌────────┐
    any later call ──GET────►│ runner │──────────│ interpreter │──────│ kernel │
                             └───┬────┘ /execute └─────────────┘      └────────┘
                                 ▼ spool: one file of numbered events per run

Standard library only, Python 3.10 or newer, and little of it: a chat's first run waits for its start. One run at a
time, in the order in which they came. A run is known by its id, and the same id never runs twice. Every request
carries `Authorization: Bearer <token>`; answers are JSON, those with events one line of it for each.

| request | answer |
|---|---|
| `GET /` | `{"open": [id]}`: what has not ended, in order; the first is under way |
| `POST /runs/{id}?after=0&wait_ms=`, an `Order` as body | starts the run, or finds it; its events |
| `GET /runs/{id}?after=0&wait_ms=` | its events; 404 when it is not known |
| `POST /runs/{id}/cancel`, `POST /cancel` | `{"cancelled": bool, "ended": bool}`: that run, or what is under way |
| `POST /restart` | `{}` once the kernel is a new one |
| `POST /complete`, `{"code", "cursor"}` as body | what could stand there, null when the kernel does not say |

Events come from number `after` on, as they happen, until the run's end or for `wait_ms`; empty lines keep the
connection alive. Refused are: 400 an order that lacks what the answer names, 401 a token, 409 a run that would have
to wait and may not (`busy`) or that is one too many (`full`), 422 a known id with another `digest`.

An event has its number `n`, from 1; `at`, in ms since 1970; and a `type`:

| type | besides |
|---|---|
| `accepted` | the `Order`, and `ahead_ms`, which what is before it may take at most |
| `started` | `reset`: why variables of earlier runs are gone (`kernel_died`, `restarted`), null when they are not |
| `stdout`, `stderr`, `result`, `error` | what the interpreter says of it |
| `end` | `end`: `finished`, or why before its time; `reset`: whether variables are gone now; and changed files |

Where the user's files have changed in the run, its end has them as `files`, each with a `path` below the home and a
`size` in bytes. If that is not all, it says how many `more_files` there are, and in `all_seen` if it looked at all.
"""
