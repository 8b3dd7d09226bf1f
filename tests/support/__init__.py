"""What several folders of tests share: texts, tiny models, shelves, processes, daemons and fakes.

Fixtures stand in the conftest of the folder that uses them and are made of what is here. A fake is typed as the port it stands
for, and passes the same suite in tests/contract as the real thing.
"""
