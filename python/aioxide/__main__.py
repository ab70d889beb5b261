"""python -m aioxide: run an unchanged program on aioxide."""

# Nothing more may stand here: the program takes over this module's namespace.
if __name__ == "__main__":
    from aioxide._ways_in.runner import main

    main()
