"""Reads what a file holds: by its content, whatever its name says, and in a process of its own.

    process ──starts──► __main__ ──► content ──┬─► text ──► delimited, records
                                               ├─► workbook, parquet
                                               └─► media, archives

Each of the modules on the right knows one family of formats and the library that reads it. `source` is what they
read, `columns` says what a column's values are, and `fit` what of it is kept.

This module imports nothing: the process that reads is to start fast.
"""
