"""The command's parts, one file for each kind of work. Whatever is heavy is imported when a command runs."""
