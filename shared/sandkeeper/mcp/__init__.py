"""Chats' sandboxes for clients of the Model Context Protocol: the API's services, as tools and prompts.

    app.py        who is calling, from which page, about which chat
    server.py     the protocol's requests → tools and prompts
    tools.py      what there is; run_tools.py, file_tools.py, notebook_tools.py do it
    arguments.py  what models fill in
    content.py    what comes of it, as models read it

Without FastAPI: the function has the protocol's SDK in its layer instead.
"""
