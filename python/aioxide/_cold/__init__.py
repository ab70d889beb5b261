"""The cold halves of native classes: code that runs once for a loop, connection, child or error."""
