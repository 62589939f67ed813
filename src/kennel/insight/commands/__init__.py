"""What each subcommand does: arguments in, an exit status out; what is printed goes through `say`."""
