"""Jobs and works that last: a database, a folder of files, and the order in which both are written."""
