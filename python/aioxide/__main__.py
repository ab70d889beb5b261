"""python -m aioxide: run an unchanged program on aioxide."""

# Nothing more may stand here: the program takes over this module's namespace.
from aioxide._runner import main

main()
