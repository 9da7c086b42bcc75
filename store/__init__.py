"""What collector and api share: settings, errors, the database, the writer and the readers.

Imports neither of them. All SQL that Python sends lives in `sql/` and is sent from here.
"""
