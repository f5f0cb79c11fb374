"""Tools for tests: of this project, and of those who test their drivers and devices with it."""
