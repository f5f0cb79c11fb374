"""The tests; a package so that helpers have one import path."""
