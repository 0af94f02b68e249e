"""The commands: one module for each noun, which is imported when the command is called."""
