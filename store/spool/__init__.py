"""The spool: the disk buffer in front of the database. What it took is fsynced, and stays until it is committed.

segment    one file: records with checksums, and what damage looks like
folder     who owns which files, and how many bytes there may be
appender   many batches that wait, one fsync; the segments that can be drained (api.spooling does)
"""
